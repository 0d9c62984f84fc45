"""Tasks and recipes as files: those that are shipped, and what experiments make of them."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from support.tiny import tiny_config, tiny_tokenizer
from typer.testing import CliRunner

from flows.cli.main import app
from flows.config.compare import CompareConfig
from flows.config.load import load_config, with_overrides
from flows.config.transfer import TransferConfig
from flows.presets.check import check_task
from flows.presets.expand import task_name
from flows.presets.files import FOLDER, RecipeFile, TaskFile, read_preset, shipped
from flows.presets.overrides import task_with
from paraknow_core.data.deal import deal
from paraknow_core.data.drafts import Draft, to_example
from paraknow_core.data.rows import to_draft
from paraknow_core.data.templates import tulu
from paraknow_core.errors import ConfigError
from tasks.acquire_data import deal_rules, row_form
from tasks.engine.run import RunConfig

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "data"
MODELS = ["teacher.model=big", "student.model=small"]
ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "1 + {n}?", "answer": "It is <<1+{n}=2>>2\nsure.\n#### {n}"},
    "mmlu": {"question": "{n}?", "subject": "moral_facts", "choices": list("wxyz"), "answer": 2},
    "super_ni": {"definition": "Say it.", "inputs": "word {n}", "targets": ["w {n}", "v"]},
    "alpaca_farm": {"conversations": ["say {n}", "said {n}"], "source": "x"},
}
"""Of the form of each task's data set."""
WORDS = {
    "gsm8k": (
        "Answer the following question.\n\nQuestion: 1 + 7?",
        "Answer:",
        " It is 2 sure. So the answer is 7.",
    ),
    "mmlu": (
        "The following are multiple choice questions (with answers) about moral facts.\n\n"
        "7?\nA. w\nB. x\nC. y\nD. z\nAnswer:",
        "The answer is:",
        " C",
    ),
    "super_ni": ("Say it.\n\nInput: word 7\nOutput:", "", "w 7"),
    "alpaca_farm": ("say 7", "", "said 7"),
}


def row(name: str, n: int) -> dict[str, Any]:
    """One row of a task's form."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        return value.replace("{n}", str(n)) if isinstance(value, str) else value

    return {key: filled(value) for key, value in ROWS[name].items()}


@pytest.mark.parametrize("name", list(ROWS))
def test_a_shipped_task_words_its_rows_as_the_papers_public_data(name: str) -> None:
    data = read_preset(TaskFile, name).data
    wording = data.rows.wording or data.wording
    draft = to_draft(row(name, 7), where="", default_id="7", form=row_form(data, data.rows))
    found = to_example(draft, template=tulu, wording=wording)
    asked, prefix, answer = WORDS[name]
    assert found.prompt == f"<|user|>\n{asked}\n\n<|assistant|>\n{prefix}"
    assert found.answer == answer


def test_every_shipped_task_has_the_papers_sizes_and_can_be_dealt() -> None:
    assert set(shipped(TaskFile)) == set(ROWS)
    for name in shipped(TaskFile):
        data = read_preset(TaskFile, name).data
        assert (data.sizes.seeds, data.sizes.train, data.seeds_from) == (32, 1000, "train")
        form = row_form(data, data.rows)
        rows = [to_draft(row(name, n), where="", default_id=str(n), form=form) for n in range(1240)]
        own = {} if not data.test.given else {"test": [_other(one) for one in rows[:1000]]}
        dealt = deal({"rows": rows, **own}, deal_rules(data))
        assert set(dealt["seeds"]) < set(dealt["train"])


def _other(draft: Draft) -> Draft:
    return Draft(draft.id, "", question=f"other {draft.question}", answers=draft.answers)


def test_a_recipe_is_the_papers() -> None:
    config = load_config(
        TransferConfig, None, MODELS, presets={"task": "gsm8k", "recipe": "seeking"}
    )
    tuned = config.finetune
    assert (tuned.learning_rate, tuned.epochs, tuned.batch_size) == (3e-4, 3, 64)
    assert (tuned.warmup_ratio, tuned.dropout, tuned.cutoff) == (0.03, 0.05, 2048)
    assert (config.lora.rank, config.lora.alpha, config.name) == (16, 16, "gsm8k")
    assert config.evaluate.match == "last_number"
    assert with_overrides(config, {"lora.rank": 8}).lora.rank == 8


def test_own_means_the_harness_task_of_the_task_s_file() -> None:
    given = {"task": "gsm8k", "teacher": {"model": "b"}, "student": {"model": "s"}}
    own = {"evaluate": {"tasks": "own"}}
    config = TransferConfig.model_validate(given | own)
    assert [task.task for task in config.evaluate.tasks] == ["gsm8k"]
    assert config.evaluate.match == "last_number"
    assert TransferConfig.model_validate(given).evaluate.tasks == ()
    with pytest.raises(ValueError, match=r"task 'alpaca_farm' names no harness task"):
        TransferConfig.model_validate(given | own | {"task": "alpaca_farm"})
    with pytest.raises(ValueError, match=r"own stands for the harness task that a task's file"):
        TransferConfig.model_validate(given | own | {"task": ""})
    one = TransferConfig.model_validate(given | {"evaluate": {"tasks": "arc_easy"}})
    assert [task.title for task in one.evaluate.tasks] == ["arc_easy"]
    named = {name: read_preset(TaskFile, name).harness for name in shipped(TaskFile)}
    assert named == {"alpaca_farm": "", "gsm8k": "gsm8k", "mmlu": "mmlu", "super_ni": "super_ni"}


@pytest.mark.parametrize(
    ("tasks", "match"),
    [
        ([{"task": "gsm8k", "limit": 0}], r"limit.*greater than or equal to 1"),
        ([{"task": "gsm8k", "shots": -1}], r"shots.*greater than or equal to 0"),
        (["gsm8k", "gsm8k"], r"given twice: gsm8k"),
        (
            [{"task": "gsm8k", "data_files": {"test": "a"}, "dataset_path": "b"}],
            r"give one of them",
        ),
    ],
)
def test_benchmarks_that_cannot_be_meant_are_refused(tasks: list[Any], match: str) -> None:
    given = {"teacher": {"model": "b"}, "student": {"model": "s"}, "evaluate": {"tasks": tasks}}
    with pytest.raises(ValueError, match=f"(?s){match}"):
        TransferConfig.model_validate(given)


def test_a_file_in_place_of_the_hub_keeps_words_and_sizes(tmp_path: Path) -> None:
    given = tmp_path / "given.yaml"
    given.write_text(
        "task: gsm8k\nname: mine\nteacher: {model: big}\nstudent: {model: small}\n"
        "data: {test: {path: test.jsonl}, sizes: {test: 9}}\n"
    )
    config = load_config(TransferConfig, given, ["data.rows.path=train.jsonl"])
    shipped_data = read_preset(TaskFile, "gsm8k").data
    assert (config.data.rows.path, config.data.rows.hub) == ("train.jsonl", "")
    assert (config.data.test.path, config.data.test.split) == ("test.jsonl", "train")
    assert config.data.wording == shipped_data.wording
    assert (config.data.sizes.test, config.data.sizes.train, config.name) == (9, 1000, "mine")
    left_alone = {"path": "", "hub": "", "split": "train"}  # as a form sends it
    form = TransferConfig.model_validate(
        {"task": "gsm8k", "teacher": {"model": "b"}, "student": {"model": "s"}}
        | {"data": {"test": left_alone}}
    )
    assert form.data.test == shipped_data.test


def test_a_comparison_names_tasks_and_a_recipe() -> None:
    pair = {"name": "p", "teacher": {"model": "b"}, "student": {"model": "s"}}
    given = {
        "recipe": "seeking",
        "pairs": [pair],
        "tasks": ["gsm8k", {"task": "mmlu", "name": "few", "data": {"sizes": {"test": 50}}}],
        "settings": {"lora": {"rank": 8}},
    }
    config = CompareConfig.model_validate(given)
    assert [(task.name, task.data.sizes.test) for task in config.tasks] == [
        ("gsm8k", "all"),
        ("few", 50),
    ]
    assert config.settings["lora"] == {"rank": 8, "alpha": 16, "split": "output"}
    assert "baseline" not in config.settings
    shared = given | {"settings": {"evaluate": {"compute_dtype": "bfloat16", "match": "exact"}}}
    measured = CompareConfig.model_validate(shared).evaluation(config.tasks[1])
    assert (measured.compute_dtype, measured.match) == ("bfloat16", "letter")
    assert config.may_overlap(config.tasks[0]) == ("seeds-train",)
    everything = CompareConfig.model_validate(given | {"allow_overlap": True})
    assert len(everything.may_overlap(everything.tasks[0])) == 6
    assert CompareConfig.model_validate(given | {"allow_overlap": False}) == config


MINE = """\
title: Mine
data:
  rows: {path: %s}
  wording: {prompt: "Q: {{ question }}", prefix: "A:"}
  sizes: {seeds: 2, train: all, validation: 2, test: 3}
evaluate: {match: last_number, max_new_tokens: 8, primary: exact_match}
"""


def test_a_task_is_called_as_its_file() -> None:
    assert [task_name(name) for name in ("gsm8k", "a/my task.yaml", "-.yaml")] == [
        "gsm8k",
        "my_task",
        "task",
    ]


def mine(folder: Path, *, rows: int = 12) -> Path:
    path = folder / "rows.jsonl"
    texts = [{"question": f"what is {n}", "answer": [f"it is {n}", f"{n}"]} for n in range(rows)]
    path.write_text("".join(json.dumps(text) + "\n" for text in texts))
    task = folder / "mine.yaml"
    task.write_text(MINE % path)
    return task


def run(*arguments: str) -> Any:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, ["tasks", *arguments])


def test_a_task_s_file_may_be_about_its_own_benchmark(tmp_path: Path) -> None:
    text = mine(tmp_path).read_text() + "\nharness: gsm8k\n"
    name = "gsm8k:exact_match,flexible-extract"
    found = re.sub("evaluate: {.*", f"evaluate: {{tasks: own, primary: '{name}'}}", text)
    task = tmp_path / "about.yaml"
    task.write_text(found)
    pair = {"teacher": {"model": "a"}, "student": {"model": "b"}}
    how = TransferConfig.model_validate(pair | {"task": str(task)}).evaluate
    assert (how.primary, [one.title for one in how.tasks]) == (name, ["gsm8k"])
    task.write_text(found.replace("\nharness: gsm8k", ""))
    with pytest.raises(ConfigError, match=r"about.yaml:.*own stands for the harness task"):
        read_preset(TaskFile, str(task))


def test_a_task_of_ones_own_is_checked(tmp_path: Path) -> None:
    tokenizer = tmp_path / "model"
    tiny_tokenizer().save_pretrained(tokenizer)
    tiny_config("llama").save_pretrained(tokenizer)
    where = ["--store", str(tmp_path / "store")]
    done = run("check", str(mine(tmp_path)), *where, "--tokenizer", str(tokenizer), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["rows"] == {"seeds": 2, "train": 5, "validation": 2, "test": 3}
    assert (found["references"], found["overlap"], found["fine"]) == (3, [], True)
    assert found["tokens"]["train"]["dropped"] == 0
    cut = run(
        *("check", str(mine(tmp_path)), *where, "--tokenizer", str(tokenizer), "--cutoff", "8")
    )
    assert cut.exit_code == 1
    assert "The first test row" in cut.output


def test_what_splits_share_is_told_row_by_row(tmp_path: Path) -> None:
    task = task_with(
        read_preset(TaskFile, str(mine(tmp_path))), ["data.seeds_from=train", "data.seed=1"]
    )
    found = check_task(task, run=RunConfig(store=str(tmp_path / "store")))
    shared = [entry for entry in found.overlap if entry.hits]
    assert {(entry.first, entry.second) for entry in shared} == {("seeds", "train")}
    assert {len(entry.examples) for entry in shared if entry.kind == "exact"} == {2}
    assert found.is_fine


def test_the_list_and_one_of_it_are_shown() -> None:
    done = run()
    assert done.exit_code == 0
    assert all(name in done.output for name in ROWS)
    shown = run("show", "mmlu")
    assert "harness: mmlu" in shown.output
    listed = json.loads(run("--json").output)
    assert [task["name"] for task in listed] == sorted(ROWS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title: x\n", r"mine\.yaml:1: data is required"),
        ("data:\n  sizes: {train: 5}\n", r"mine\.yaml:1: data\.rows is required|rows is required"),
        ("data:\n  rows: {path: a}\n  sizes:\n    train: 0\n", r"mine\.yaml:4: data\.sizes\.train"),
        ("data:\n  rows: {path: a}\nevaluate:\n  mach: x\n", r"mine\.yaml:4: .*did you mean match"),
        ("data:\n  rows: {path: a}\nharnes: x\n", r"mine\.yaml:3: .*did you mean harness"),
        ("- a\n", r"mine\.yaml:1: a task holds settings"),
        ("data: {rows: {path: a}\n", r"mine\.yaml is no valid YAML: line"),
        (
            "data:\n  rows: {path: a}\n\n  wording:\n    prompt: '{{ q'\n",
            r"mine\.yaml:5: data\.wording\.prompt: no valid Jinja",
        ),
    ],
)
def test_a_fault_of_a_file_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_preset(TaskFile, str(path))
    with pytest.raises(ConfigError, match=words):
        load_config(TransferConfig, None, MODELS, presets={"task": str(path)})


@pytest.mark.parametrize(
    ("presets", "words"),
    [
        ({"task": "gms8k"}, r"unknown task 'gms8k' \(did you mean 'gsm8k'\?\)"),
        ({"task": "gsm8k", "recipe": "seking"}, r"unknown recipe .*did you mean 'seeking'"),
        ({"task": "nowhere.yaml"}, r"nowhere\.yaml"),
    ],
)
def test_an_unknown_name_gets_the_nearest(presets: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(TransferConfig, None, MODELS, presets=presets)


def test_a_transfer_of_nothing_says_what_to_give() -> None:
    done = CliRunner().invoke(app, ["transfer"])
    assert isinstance(done.exception, ConfigError)
    assert "--task gsm8k" in str(done.exception)


def test_the_files_are_part_of_the_package_and_seen_in_configs() -> None:
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert packaged["package-data"]["flows.presets"] == ["tasks/*.yaml", "recipes/*.yaml"]
    for kind, folder in ((TaskFile, "tasks"), (RecipeFile, "recipes")):
        files = {path.resolve() for path in shipped(kind).values()}
        assert files == {path.resolve() for path in (ROOT / "configs" / folder).iterdir()}
        assert {path.parent for path in files} == {FOLDER / folder}


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not beside this checkout")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("gsm8k", {"rows": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"}),
        ("gsm8k", {"rows": "gsm/gsm_data_1000.jsonl", "test": "gsm8k/test.jsonl"}),
        ("mmlu", {"rows": "mmlu/mmlu_data_1000.jsonl"}),
        ("super_ni", {"rows": "super_ni/super_ni_data_1000.jsonl"}),
        ("alpaca_farm", {"rows": "lima/sample_lima.jsonl"}),
    ],
)
def test_the_real_rows_run_without_leave_to_overlap(
    tmp_path: Path, name: str, settings: dict[str, str]
) -> None:
    sizes = "{seeds: 32, train: all, validation: 100, test: 200}"
    sizes = "{seeds: 8, train: all, validation: 5, test: 5}" if "lima" in str(settings) else sizes
    task = read_preset(TaskFile, name)
    places = {"test": "data.test=null"}
    places |= {split: f"data.{split}.path={REAL / file}" for split, file in settings.items()}
    task = task_with(task, [*places.values(), f"data.sizes={sizes}"])
    found = check_task(task, run=RunConfig(store=str(tmp_path / "store")))
    assert found.refused == []
    assert not found.unmatched


@pytest.mark.skipif(not REAL.is_dir(), reason="the real files are not beside this checkout")
def test_gsm8k_from_its_source_is_the_papers_data_to_the_letter() -> None:
    task = read_preset(TaskFile, "gsm8k")
    form = row_form(task.data, task.data.rows)
    texts = []
    for file in ("gsm8k/train.jsonl", "gsm/gsm_data_1000.jsonl"):
        lines = (REAL / file).read_text(encoding="utf-8").splitlines()
        drafts = [to_draft(json.loads(x), where=file, default_id="", form=form) for x in lines]
        made = [to_example(d, template=tulu, wording=task.data.wording) for d in drafts]
        texts.append({(example.prompt, example.answer) for example in made})
    assert len(texts[1]) == 1000
    assert texts[1] <= texts[0]
