"""The recipes of docs/architecture.md work as they stand there."""

import json
import math
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.direct import DirectRunner, run_direct
from support.items import arm, items
from support.pair import pair_settings, write_pair
from support.results import published
from support.starts import token_examples
from support.tiny import tiny_model
from transformers import TrainingArguments
from typer.testing import CliRunner

from artifacts.queries.find import find_record
from artifacts.remote.backends import BACKENDS, open_backend
from artifacts.remote.probe import probe
from artifacts.store import Store
from flows.cli.main import app
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.arm import ArmOutcome, SeedRun
from flows.graph.cell import CellOutcome
from flows.graph.pair import acquire_pair
from flows.graph.runner import Handle
from flows.graph.transfer_steps import measure, wire
from flows.planning.planner import Planner
from flows.results.conclude import conclude
from flows.results.dataset import read, results_folder
from flows.results.report_inputs import report_of
from paraknow_core.alignment.layers import LAYER_STRATEGIES, choose_layers
from paraknow_core.data.batches import collate
from paraknow_core.data.templates import TEMPLATES, Message, get_template
from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.items import read_items
from paraknow_core.evaluation.match import MATCHES, get_match
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.finetuning import recipe as recipes
from paraknow_core.finetuning.batches import next_token_logits
from paraknow_core.finetuning.checkpoints import run_digest
from paraknow_core.initialisation import controls
from paraknow_core.initialisation.controls import FACTOR_CONTROLS
from paraknow_core.initialisation.student import METHODS_OF_STUDENT
from paraknow_core.method_tables import seeking, student_starts
from paraknow_core.methods import METHODS
from paraknow_core.models.config import own_names, read_config
from paraknow_core.models.describe import describe
from paraknow_core.models.family_tables import FAMILIES
from paraknow_core.models.load import load_model
from paraknow_core.registry import Registry
from paraknow_core.report.transfer_summary import arm_name, as_markdown, compare_arms
from paraknow_core.settings import identity_of
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.judge import about, judge
from paraknow_core.statistics.verdict import knowledge_controls, questions
from tasks import finetune as finetuning
from tasks.align import AlignConfig
from tasks.engine.ref import Ref, folder_of
from tasks.engine.stage import Stage
from tasks.evaluate import EvaluateConfig
from tasks.rows.config import DataConfig

PAGE = (Path(__file__).parents[3] / "docs" / "architecture.md").read_text()


def example(what: str) -> str:
    """The code of one recipe."""
    (code,) = re.findall(rf"^ *```python\n *# {what}\n(.*?)```", PAGE, flags=re.S | re.M)
    return str(code)


def carry_out(what: str, within: ModuleType | None = None) -> dict[str, Any]:
    """Run the code of a recipe, with the names of the module in which it is to stand."""
    names: dict[str, Any] = dict(vars(within)) if within else {}
    exec(example(what), names)
    return names


def register(
    what: str,
    registry: Registry[Any],
    monkeypatch: pytest.MonkeyPatch,
    within: ModuleType | None = None,
) -> str:
    """Do what the recipe says: its function, and its line in the table; returns the name."""
    names = carry_out(what, within)
    lines = [(n, v) for n, v in re.findall(r'`"([\w-]+)": (\w+),`', PAGE) if v in names]
    ((name, variable),) = lines
    assert name not in registry
    monkeypatch.setitem(registry._entries, name, names[variable])
    return str(name)


def test_a_layer_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    name = register("layer choice", LAYER_STRATEGIES, monkeypatch)
    assert AlignConfig(strategy=name).strategy == name
    chosen = choose_layers(name, scores=[1.0] * 7, num_teacher=7, num_student=3, seed=0)
    assert chosen == [2, 3, 4]


def arms_of(folder: Path, *arms: str) -> tuple[TransferConfig, list[str], dict[str, Ref]]:
    """Plan and run a tiny pair's start points; returns the labels of the plan, and what was run."""
    settings = pair_settings(folder, folder / "store") | {"arms": ["transfer", *arms]}
    config = TransferConfig.model_validate(settings)
    (folder / "aside").mkdir()
    planner = Planner(config.run, Stage.LORA, folder / "aside")
    wire(config, planner)
    return config, [step.label for step in planner.steps], run_direct(settings, Stage.LORA)


def factors_in(config: TransferConfig, ref: Ref, name: str) -> dict[str, torch.Tensor]:
    store = config.run.open_store()
    return load_file(store.tree_path(find_record(store, ref.key)) / name)


def test_a_method_without_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be chosen, is planned and computed, and is judged and shown as its kind."""
    name = register("start point", METHODS_OF_STUDENT, monkeypatch)
    assert register("method", METHODS, monkeypatch, within=student_starts) == name
    assert name in json.dumps(TransferConfig.model_json_schema())
    folder = write_pair(tmp_path)
    with pytest.raises(ValueError, match=f"did you mean '{name}'.*known are.*{name}"):
        TransferConfig.model_validate(pair_settings(folder, folder) | {"arms": [f"{name}s"]})

    config, planned, made = arms_of(folder, name)
    assert f"start {name}" in planned
    found = factors_in(config, made[f"start {name}"], "adapter_model.safetensors")
    place = "model.layers.0.self_attn.q_proj"
    a_RN, b_MR = (found[f"base_model.model.{place}.lora_{x}.weight"] for x in "AB")
    assert torch.allclose(a_RN @ a_RN.T, torch.eye(len(a_RN)), atol=1e-5)
    weight_MN = load_model(folder / "student").get_submodule(place).weight.detach()
    assert torch.allclose(b_MR, weight_MN @ a_RN.T, atol=1e-5)

    losses = {"transfer": 1.2, "plain": 1.5, name: 1.0}
    judged = judge([arm(n, loss, seeds=6) for n, loss in losses.items()])
    assert judged.verdict is not None
    assert {answer.other for answer in judged.verdict.answers} == set(questions("transfer"))
    said = "Made of the student alone and better than the transfer: the random-subspace start"
    assert said in judged.sentence
    assert about(name)[0] == "baseline"
    summary = compare_arms({n: items(1.0, 0) for n in ("vanilla", "transfer", name)})
    assert f"| {name} | 1.0" in as_markdown(summary)


def test_a_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made of the transfer's own steps, and a claim about the teacher has to beat it."""
    name = register("control", FACTOR_CONTROLS, monkeypatch, within=controls)
    assert register("control's entry", METHODS, monkeypatch, within=seeking) == name
    config, planned, made = arms_of(write_pair(tmp_path), name)
    assert planned.count("decompose") == 1
    halved, whole = (
        factors_in(config, made[label], "factors.safetensors")
        for label in (f"control {name}", "decompose")
    )
    assert halved.keys() == whole.keys()
    for part, value in whole.items():
        assert torch.equal(halved[part], value / 2 if part.endswith(".S") else value)
    assert f"lora {name}" in made
    assert name in knowledge_controls("transfer", [name])
    assert arm_name(name) == f"control: {name}"
    assert about(name)[0] == "control"


def test_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    name = register("template", TEMPLATES, monkeypatch)
    assert DataConfig(template=name).template == name
    turns = [Message("user", " 2 + 2? "), Message("assistant", "4\n")]
    prompt, answer = get_template(name)(turns)
    assert prompt == "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
    assert answer == "4"


def test_a_match_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    name = register("match rule", MATCHES, monkeypatch)
    assert EvaluateConfig(match=name).match == name
    found = [get_match(name)(text) for text in ("The answer is (B).", "A or D? D", "none")]
    assert found == ["B", "D", ""]


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as the primary one it is measured, judged by, kept in the data set, and shown."""
    name = register("metric", METRICS, monkeypatch)
    metric = METRICS[name]
    folder = write_pair(tmp_path)
    one = pair_settings(folder, folder / "store")
    task = {"name": "words", "data": one["data"], "evaluate": one["evaluate"] | {"primary": name}}
    pair = {"name": "tiny", "teacher": one["teacher"], "student": one["student"]}
    shared = {"run": one["run"], "settings": {step: one[step] for step in ("lora", "decompose")}}
    config = CompareConfig.model_validate(
        {"name": "bits", "pairs": [pair], "tasks": [task], **shared}
    )
    pair_config, task_config = config.pairs[0], config.tasks[0]
    settings = config.transfer(pair_config, task_config, config.arms[0])
    runner = DirectRunner(config.run, Stage.EVALUATE)
    measured = measure(acquire_pair(settings, runner, methods=()), "vanilla")
    assert measured.known is not None
    store = config.run.open_store()
    metrics = json.loads((folder_of(store, measured.known) / "metrics.json").read_text())
    assert metrics[name] == pytest.approx(metrics["answer_nll"] / math.log(2))

    found = read_items(folder_of(store, measured.known) / "items.parquet")
    better = [replace(item, nll=item.nll / 2) for item in found]
    sides = {"transfer": better, "plain": found}
    arms = [ArmResult(n, n, dict.fromkeys(range(6), items)) for n, items in sides.items()]
    evaluation = config.evaluation(task_config)
    verdict = judge(arms, evaluation.primary, evaluation.metrics).sentence
    assert verdict.startswith(f"In {metric.title} the transfer is better than tuned plain LoRA")

    run = SeedRun(config.seeds[0], measured=measured)
    arm = ArmOutcome("plain", "plain", rate=1e-3, runs=[run])
    cell = CellOutcome(pair_config, task_config, arms=[arm])
    assert report_of(config, [cell]).cells[0].primary == name
    conclude(config, [cell], DirectRunner(config.run, Stage.EVALUATE))  # type: ignore[arg-type]
    (row,) = (
        read(results_folder(store.root))
        .query("status == 'ok' and evaluation_key != ''")
        .to_dict("records")
    )
    assert (row["primary"], row[name]) == (name, metrics[name])
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["results", "--store", str(store.root), "--method", "plain"]
    )
    assert metric.label in shown.output
    assert f"{metrics[name]:.4f}" in shown.output


def test_a_model_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its tensors, logits and defaults are those of the Transformers class."""
    from transformers import AutoConfig, AutoModelForCausalLM

    family = register("model family", FAMILIES, monkeypatch)
    folder = tiny_model(tmp_path / "model", family, head_dim=8, tied=True, attention_bias=True)
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    ours = load_model(folder).eval()
    batch = collate(token_examples(3))
    with torch.no_grad():
        assert torch.equal(next_token_logits(ours, batch), next_token_logits(theirs, batch))
    told = {tensor.parameter for tensor in describe(folder).tensors}
    assert told == {name for name, _parameter in theirs.named_parameters()}

    sizes = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")
    whole = json.loads((folder / "config.json").read_text())
    kept = {name: whole[name] for name in (*sizes, "intermediate_size", "vocab_size")}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    class_of = AutoConfig.from_pretrained(tmp_path)
    read = own_names(read_config(tmp_path))
    assert AutoConfig.for_model(**read).to_diff_dict() == class_of.to_diff_dict()
    defaults = (FAMILIES[family].kv_heads, FAMILIES[family].head_dim, FAMILIES[family].tied)
    of_class = (class_of.num_key_value_heads, class_of.head_dim, class_of.tie_word_embeddings)
    assert defaults == of_class


def test_a_setting_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the section of a settings file, in the key if it was changed, and reaches AdamW."""
    field, use = (textwrap.indent(example(w), " " * 4) for w in ("setting", "use of the setting"))
    text = Path(str(recipes.__file__)).read_text()
    text = re.sub(r"(?=^    @model_validator)", field, text, count=1, flags=re.M)
    text = re.sub(r'(?=^ +"optim")', use, text, count=1, flags=re.M)
    text = text.replace("import Recipe, execution,", "import Recipe, execution, later,")
    recipe, task = (ModuleType(module.__name__) for module in (recipes, finetuning))
    monkeypatch.setitem(sys.modules, recipe.__name__, recipe)
    exec(text, vars(recipe))
    monkeypatch.setitem(sys.modules, task.__name__, task)
    exec(Path(str(finetuning.__file__)).read_text(), vars(task))

    usual, given = task.FinetuneConfig(), task.FinetuneConfig(adam_beta2=0.95)
    assert identity_of(usual) == identity_of(finetuning.FinetuneConfig())
    assert identity_of(given) == identity_of(usual) | {"adam_beta2": 0.95}
    assert run_digest(recipe.numbers_of(given)) != run_digest(recipe.numbers_of(usual))
    with pytest.raises(ConfigError, match=r"adam_beta2: must be less than 1 \(given 1"):
        given.model_copy(update={"adam_beta2": 1})
    arguments = recipe.trainer_arguments(given, drafts=tmp_path, steps=1, device="cpu")
    before = recipes.trainer_arguments(given, drafts=tmp_path, steps=1, device="cpu")
    assert arguments == before | {"adam_beta2": 0.95}
    assert TrainingArguments(**arguments).adam_beta2 == 0.95
    assert TrainingArguments(**before).adam_beta2 == usual.adam_beta2


def new_step(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Do what the recipe of a step says, but for the wiring."""
    module = ModuleType("tasks.norms")
    monkeypatch.setitem(sys.modules, "tasks.norms", module)
    exec(example("step"), vars(module))
    return module


def test_a_store_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL finds it, it can do all that is asked of one, and two stores share results by it."""
    names = carry_out("store backend")
    ((scheme, variable),) = re.findall(r'`"(\w+)": (MemoryBackend),`', PAGE)
    monkeypatch.setitem(BACKENDS, scheme, names[variable])
    found = probe(open_backend(f"{scheme}://here"))
    assert (found.conditional, found.ranges, found.lists) == (True, True, True)
    one, other = (Store.open(tmp_path / name, remote=f"{scheme}://here") for name in "ab")
    record = published(one)
    assert other.lookup_here(record.key) is None
    shared = other.lookup(record.key)
    assert shared == record
    assert (other.tree_path(record) / "u.bin").read_bytes() == b"u" * 1000


def test_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is planned, computed, and from then on a hit; another setting is another result."""
    module = new_step(monkeypatch)
    folder = write_pair(tmp_path)
    config = TransferConfig.model_validate(pair_settings(folder, folder / "store"))

    def under(runner: Any, **settings: str) -> Handle:
        pair = acquire_pair(config, runner)
        made = {"pair": pair, "norms": module.norms}
        made["NormsConfig"] = lambda: module.NormsConfig(**settings)
        found: Handle = eval(example("wiring").strip(), made)
        return found

    (tmp_path / "aside").mkdir()
    planner = Planner(config.run, Stage.ACQUIRE, tmp_path / "aside")
    under(planner)
    assert planner.steps[-1].step == "norms"
    assert planner.steps[-1].status == "run"

    first, second, other = (
        under(DirectRunner(config.run, Stage.ACQUIRE), **given).known
        for given in ({}, {}, {"order": "nuc"})
    )
    assert first is not None
    assert second is not None
    assert other is not None
    assert [ref.cached for ref in (first, second, other)] == [False, True, False]
    assert first.key == second.key == planner.steps[-1].key != other.key
    record = find_record(config.run.open_store(), first.key)
    norms = json.loads((config.run.open_store().tree_path(record) / "norms.json").read_text())
    weight = load_model(folder / "student").get_input_embeddings().weight.detach()
    assert norms["model.embed_tokens.weight embed"] == pytest.approx(float(weight.norm()), rel=1e-6)
    assert record.facts["matrices"] == len(norms)
