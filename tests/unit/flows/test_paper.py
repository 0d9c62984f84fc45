"""The paper's tables: every file loads, and is planned without weights and without the Hub."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_model
from typer.testing import CliRunner

from flows.cli.main import app
from flows.config.compare import CompareConfig
from flows.config.load import load_config, with_overrides
from flows.config.narrow import narrowed
from flows.planning.compare import ComparePlan, make_compare_plan
from paraknow_core.errors import BudgetError, ConfigError, ModelFolderError, TokenizerError
from paraknow_core.models.config import read_config
from paraknow_core.models.describe import describe, foreseen
from tasks.acquire_model import ModelConfig, acquire_model, load_architecture

FOLDER = Path(__file__).parents[3] / "configs" / "paper"
FILES = {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}
TEACHER = {"hidden": 48, "layers": 4, "heads": 4, "kv_heads": 2, "ffn": 96}
STUDENT = {"hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 64}
RATES = ("budget.flops=1e9", "budget.bandwidth=1e9", "budget.price=2")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, whole, and their configs and tokenizers alone."""
    place = tmp_path_factory.mktemp("paper")
    for name, sizes in (("teacher", TEACHER), ("student", STUDENT)):
        tiny_model(place / "whole" / name, **sizes, seed=1)
        shutil.copytree(
            place / "whole" / name, place / name, ignore=shutil.ignore_patterns("*.safetensors")
        )
    return place


def paper(table: str, place: Path, *more: str, models: str = "") -> CompareConfig:
    stand_ins = [
        f"pairs.{pair.name}.{who}.model={place / models / who}"
        for pair in load_config(CompareConfig, FILES[table]).pairs
        for who in ("teacher", "student")
    ]
    small = ["settings.lora.rank=4", "settings.decompose.max_rank=4"]
    here = [f"run.store={place / 'store'}", "run.device=cpu"]
    return load_config(CompareConfig, FILES[table], [*stand_ins, *small, *here, *more])


def test_the_tables_are_the_papers() -> None:
    assert set(FILES) == {"main", "layers", "structure", "origin", "controls"}
    for name, path in FILES.items():
        config = load_config(CompareConfig, path)
        assert [pair.student.model for pair in config.pairs] == [
            "meta-llama/Llama-2-7b-hf",
            "meta-llama/Llama-3.2-1B",
            "Qwen/Qwen2.5-0.5B",
        ]
        for pair, task in config.cells():
            for arm in config.arms:
                own = config.transfer(pair, task, arm)
                assert (own.data.sizes.seeds, own.data.sizes.train) == (32, 1000)
                assert (own.lora.rank, own.lora.alpha, own.lora.embedding_split) == (
                    16,
                    16,
                    "hidden",
                )
                assert (own.finetune.epochs, own.finetune.batch_size) == (3, 64)
                assert len(own.trained_roles) == 9  # whatever is taken of the teacher
        if name != "controls":
            assert (config.seeds, config.tuning.seeds) == ((0, 1, 2), ())
            assert {config.rates_of(arm) for arm in config.arms} == {(3e-4,)}


def plan(table: str, place: Path, *more: str) -> ComparePlan:
    return make_compare_plan(paper(table, place, *RATES, *more))


@pytest.mark.parametrize("table", FILES)
def test_every_table_is_planned_from_configs_alone(table: str, place: Path) -> None:
    config = paper(table, place, *RATES)
    found = make_compare_plan(narrowed(config, pairs=["qwen"], tasks=["gsm8k"]))
    assert not found.failures
    told = json.loads(found.to_json())
    assert told["memory_bytes"] > 0
    assert told["hours"] > 0
    assert told["cost"] == pytest.approx(2 * told["hours"])
    assert "as given" in told["rates"]
    assert len(told["lacking"]) == 2
    (items,) = told["visible"]
    assert items.startswith("gsm8k: 1319 test items show a difference in exact match of 2.5 %")
    by_rates = {step.step for step in found.steps if step.by_rates}
    assert by_rates == {"sensitivity", "extract", "decompose", "finetune", "evaluate"}
    with pytest.raises(ModelFolderError, match=r"no weights.*put the safetensors files"):
        found.check(config.budget)


def test_hours_are_work_over_rates(place: Path) -> None:
    """By hand, of a training: 2 + 2 operations a weight and token, 6 of an adapter's, 2 again.

    Attention's two products: 2 for each channel and pair of tokens forward, 4 backward.
    """
    one = ("seeds=[0,1]", "methods=[transfer]")
    (step, *others) = [s for s in _one_cell(place, *one).steps if s.step == "finetune"]
    assert len(others) == 1
    student = describe(place / "whole" / "student")
    used = student.num_parameters - student.vocab_size * student.hidden_size
    adapter = 2 * sum(4 * (m.shape[0] + m.shape[1]) for m in student.matrices)
    trained, judged = 3 * 1000 * 150, 3 * 200 * 150
    wanted = (4 * used + 6 * adapter) * trained + 2 * used * (trained + judged)
    wanted += 6 * student.hidden_size * student.num_layers * 150 * trained
    assert step.estimate.work is not None
    assert step.estimate.work.flops == pytest.approx(wanted, rel=0.01)
    assert step.seconds == pytest.approx(wanted / 1e9, rel=0.01)
    faster = _one_cell(place, *one, "budget.flops=2e9", "budget.bandwidth=2e9")
    assert faster.hours < _one_cell(place, *one).hours


def _one_cell(place: Path, *more: str) -> ComparePlan:
    config = paper("main", place, *RATES, *more)
    return make_compare_plan(narrowed(config, pairs=["llama3"], tasks=["gsm8k"]))


def test_trainings_are_counted_once_where_only_the_questions_differ(place: Path) -> None:
    """Of rows that are not here: examples stand before test questions alone."""
    config = paper("main", place, *RATES)
    both = make_compare_plan(narrowed(config, pairs=["qwen"], tasks=["gsm8k", "gsm8k-8"]))
    one = make_compare_plan(narrowed(config, pairs=["qwen"], tasks=["gsm8k"]))
    count = Counter(step.step for step in both.steps)
    assert count["finetune"] == Counter(step.step for step in one.steps)["finetune"] == 6
    assert (count["sensitivity"], count["evaluate"], count["acquire-data"]) == (1, 14, 2)
    trained = [
        "tasks.gsm8k-8.data.fewshot={count: 8, splits: [train, test]}",
        "tasks.gsm8k-8.data.fewshot.joint=x",
    ]
    apart = narrowed(
        paper("main", place, *RATES, *trained), pairs=["qwen"], tasks=["gsm8k", "gsm8k-8"]
    )
    found = Counter(step.step for step in make_compare_plan(apart).steps)
    assert (found["finetune"], found["evaluate"]) == (12, 14)


def test_sizes_from_the_config_are_those_of_the_weights(place: Path, tmp_path: Path) -> None:
    whole = describe(place / "whole" / "teacher")
    assert foreseen(read_config(place / "teacher")).num_parameters == whole.num_parameters
    assert acquire_model.foresee is not None
    assert acquire_model.foresee(ModelConfig(model=str(place / "teacher")), tmp_path)
    assert load_architecture(tmp_path).num_layers == TEACHER["layers"]


def test_of_a_hub_model_of_which_not_all_files_are_here_nothing_is_foreseen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bare").mkdir()
    shutil.copy(place / "teacher" / "config.json", tmp_path / "bare")
    found = {"model": str(tmp_path / "bare")}
    with pytest.raises(TokenizerError):
        acquire_model.foresee(ModelConfig(**found), tmp_path)  # type: ignore[misc]
    monkeypatch.setattr("tasks.acquire_model.find_model", lambda *_, **__: tmp_path / "bare")
    assert not acquire_model.foresee(ModelConfig(model="meta/big"), tmp_path)  # type: ignore[misc]


def test_memory_of_a_real_size(tmp_path: Path, place: Path) -> None:
    """Llama-2-13B: weights in bfloat16 and a float32 map of 13,015,864,320 parameters, a sample."""
    shutil.copytree(place / "teacher", tmp_path / "13b")
    shutil.copytree(place / "student", tmp_path / "7b")
    for name, hidden, ffn, layers, heads in (
        ("13b", 5120, 13824, 40, 40),
        ("7b", 4096, 11008, 32, 32),
    ):
        sizes = {"hidden_size": hidden, "intermediate_size": ffn, "num_hidden_layers": layers}
        sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": 32000}
        told = {"model_type": "llama", "tie_word_embeddings": False, **sizes}
        (tmp_path / name / "config.json").write_text(json.dumps(told))
    models = (
        f"pairs.llama2.teacher.model={tmp_path / '13b'}",
        f"pairs.llama2.student.model={tmp_path / '7b'}",
    )
    full = ("settings.lora.rank=16", "settings.decompose.max_rank=16")
    full = (*full, "settings.sensitivity.streaming=never")
    config = paper("main", place, *RATES, *models, *full)
    found = make_compare_plan(narrowed(config, pairs=["llama2"], tasks=["gsm8k"]))
    assert found.memory_bytes == pytest.approx(6 * 13_015_864_320, rel=0.1)
    rows = {row["step"]: row for row in found.table()}
    assert rows["sensitivity"]["disk_bytes"] == 8 * 13_015_864_320


def test_a_budget_of_money_is_kept(place: Path) -> None:
    config = paper("main", place, *RATES, "budget.cost=1e-6", models="whole")
    found = make_compare_plan(narrowed(config, pairs=["llama2"], tasks=["super_ni"]))
    assert not found.lacking
    with pytest.raises(BudgetError, match=r"cost: about .*, allowed 1e-06"):
        found.check(config.budget)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("budget.flops=1e12", "flops is given without bandwidth"),
        ("budget.cost=5", "no price of an hour; set price"),
        (
            "pairs.lama.teacher.model=x",
            "named llama2, llama3, qwen; none, or more than one, is 'lama'",
        ),
        ("tasks.gsm8k.task=gsm9k", "unknown task 'gsm9k'.*did you mean 'gsm8k'"),
        ("tasks.gsm8k.evaluate={primary: exact_mach}", "did you mean 'exact_match'"),
        ("tuning.seeds=[7]", ""),
        ("{tuning: {seeds: [7]}, a: 1}", "write key=value"),
    ],
)
def test_wrong_settings_are_told(override: str, told: str) -> None:
    if not told:
        assert load_config(CompareConfig, FILES["main"], [override]).tuning.seeds == (7,)
        return
    with pytest.raises(ConfigError, match=told):
        load_config(CompareConfig, FILES["main"], [override])


def test_entries_of_lists_can_be_overridden_in_settings_that_were_checked() -> None:
    whole = load_config(CompareConfig, FILES["main"])
    changed = with_overrides(whole, {"pairs.qwen.student.model": "./small"})
    assert [pair.student.model for pair in changed.pairs][2] == "./small"
    assert changed.pairs[:2] == whole.pairs[:2]
    with pytest.raises(ConfigError, match=r"'pairs\.quen\.student': this is a list"):
        with_overrides(whole, {"pairs.quen.student": {}})


def test_part_of_a_table_is_chosen_by_names() -> None:
    whole = load_config(CompareConfig, FILES["main"])
    part = narrowed(whole, pairs=["qwen"], tasks=["mmlu", "mmlu-5"])
    assert [(p.name, t.name) for p, t in part.cells()] == [("qwen", "mmlu"), ("qwen", "mmlu-5")]
    assert part.settings == whole.settings
    assert narrowed(whole) is whole
    with pytest.raises(ConfigError, match=r"unknown pair 'quen' .*did you mean 'qwen'"):
        narrowed(whole, pairs=["quen"])
    with pytest.raises(ConfigError, match="unknown task 'gsm'"):
        narrowed(whole, tasks=["gsm"])


def test_the_plan_is_printed(place: Path) -> None:
    models = [f"--set=pairs.qwen.{who}.model={place / who}" for who in ("teacher", "student")]
    small = ["--set=settings.lora.rank=4", "--set=settings.decompose.max_rank=4"]
    asked = ["compare", str(FILES["main"]), "--plan", "--pair=qwen", "--task=gsm8k", *models]
    given: Any = [*asked, *small, *(f"--set={rate}" for rate in RATES)]
    told = CliRunner().invoke(app, [*given, f"--set=run.store={place / 'store'}"])
    assert told.exit_code == 0, told.output
    words = " ".join(told.output.split())
    assert "Cost: about" in words
    assert "at 2 an hour of a machine" in words
    assert words.count("cannot run yet:") == 2
    assert "With 3 seeds and 1 comparison nothing can be shown" in words
    assert torch.get_num_threads() >= 1


def test_a_plan_without_any_model_knows_no_needs_and_says_so(tmp_path: Path) -> None:
    models = [f"--set=pairs.qwen.{who}.model=nobody/{who}" for who in ("teacher", "student")]
    asked = ["compare", str(FILES["main"]), "--plan", "--pair=qwen", "--task=gsm8k", *models]
    told = CliRunner().invoke(app, [*asked, f"--set=run.store={tmp_path / 'store'}"])
    assert told.exit_code == 0, told.output
    words = " ".join(told.output.split())
    assert "for how long is not known" in words
    assert "what they need is not known before the sizes of their models are" in words
    assert "about 0" not in words
