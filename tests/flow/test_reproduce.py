"""Every step's result is computed again to the same bytes; what is not is measured."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from support.benchmarks import write_data, write_definitions
from support.direct import run_direct
from support.meddling import computing_from
from support.pair import pair_settings, write_pair
from typer.testing import CliRunner

from artifacts.names import StepKey
from artifacts.records import Record
from artifacts.store import Store
from flows.cli.main import app, run_command
from flows.config.transfer import TransferConfig
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from tasks.acquire_data import acquire_data
from tasks.acquire_model import ModelConfig, acquire_model
from tasks.diagnose import DiagnoseConfig, LikenessConfig, diagnose, likeness
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.source_files import watched as real_watched
from tasks.harness.benchmark import BenchmarkConfig, benchmark
from tasks.harness.benchmark_tasks import BenchmarkTasksConfig, benchmark_tasks
from tasks.harness.config import HarnessConfig, HarnessTask
from tasks.pretrain import pretrain
from tasks.random_model import RandomModelConfig, random_model
from tasks.reproduce import CannotReproduceError, reproduce
from tasks.rows.config import DataConfig, SizesConfig
from tasks.starts.compose import ComposeConfig, compose
from tasks.starts.novel_tokens import NovelTokensConfig, novel_tokens
from tasks.starts.signal_start import SignalStartConfig, signal_start
from tasks.starts.student_start import StudentStartConfig, student_start
from tasks.starts.transport import TransportConfig, transport
from tasks.steps import STEPS
from tasks.teaching.arrival import ArrivalConfig, arrival
from tasks.teaching.teacher_logits import TeacherLogitsConfig, teacher_logits
from tasks.word_problems import WordProblemsConfig, word_problems

pytestmark = pytest.mark.flow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pair(tmp_path_factory.mktemp("home"))
    run_direct(pair_settings(folder, folder / "store"))
    return folder


@pytest.fixture(scope="module")
def refs(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ref]:
    settings = pair_settings(home, home / "store")
    found = run_direct(settings)
    run = TransferConfig.model_validate(settings).run
    pair = {who: found[who] for who in ("teacher", "student")}
    data, start = {"data": found["data"]}, {"start": found["lora"]}
    for step, config, inputs in (
        (random_model, RandomModelConfig(), {"like": found["student"]}),
        (student_start, StudentStartConfig(method="pissa", rank=4), {"student": found["student"]}),
        (diagnose, DiagnoseConfig(), {"student": found["student"], **start}),
        (likeness, LikenessConfig(texts=4), {**pair, **data}),
        (novel_tokens, NovelTokensConfig(max_rank=4), pair),
        (signal_start, SignalStartConfig(method="head-regression", rank=4), {**pair, **data}),
        (transport, TransportConfig(method="weight-transport", rank=4), {**pair, **data}),
        (teacher_logits, TeacherLogitsConfig(), {**pair, **data}),
        (
            compose,
            ComposeConfig.model_validate(
                {"parts": [{"start": "own", "roles": ["head"]}, {"start": "plain", "roles": ["q"]}]}
            ),
            {"student": found["student"], "own": found["lora"], "plain": found["plain lora"]},
        ),
    ):
        found[step.name] = run_step(step, label=step.name, config=config, inputs=inputs, run=run)
    found["arrival"] = run_step(
        arrival,
        label="arrival",
        config=ArrivalConfig(rank=4),
        inputs={
            "student": found["student"],
            "novel": found["novel-tokens"],
            "adapter": found["finetune transfer"],
        },
        run=run,
    )
    # Not below ``home``: these files are not watched but compared, by what was read of them.
    aside = tmp_path_factory.mktemp("benchmarks")
    include = write_definitions(aside / "definitions", write_data(aside / "data"))
    asked, shared = HarnessTask(task="facts", shots=2), HarnessConfig(include_path=str(include))
    which = BenchmarkTasksConfig.of(asked, shared.include_path)
    tasks = run_step(benchmark_tasks, label="benchmark-tasks", config=which, inputs={}, run=run)
    found["benchmark-tasks"] = tasks
    found["benchmark"] = run_step(
        benchmark,
        label="benchmark",
        config=BenchmarkConfig.of(asked, shared, "float32"),
        inputs={"student": found["student"], "tasks": tasks, "adapter": found["finetune plain"]},
        run=run,
    )
    return found


@pytest.fixture
def store(home: Path, tmp_path: Path) -> Store:
    """A copy of the store, to damage."""
    shutil.copytree(home / "store", tmp_path / "store", symlinks=True)
    return Store.open(tmp_path / "store")


def record(store: Store, ref: Ref) -> Record:
    found = store.lookup(StepKey(ref.key))
    assert found is not None
    return found


def cli(store: Store, *arguments: str, code: int) -> str:
    result = CliRunner().invoke(app, ["reproduce", *arguments, "--store", str(store.root)])
    assert result.exit_code == code, result.output
    return result.stdout


class Opened:
    """What each step opens below a folder while it computes, and which of it is not watched."""

    def __init__(self, home: Path) -> None:
        self.home, self.steps, self.unwatched = home, set[str](), set[str]()
        self._now = ""
        self._watched = set[Path]()
        sys.addaudithook(self._meet)  # for good: it does nothing outside a computation

    @contextmanager
    def watched(self, sources: Any, *, label: str, **more: Any) -> Iterator[None]:
        with real_watched(sources, label=label, **more):
            self._watched = {f.folder / name for f in sources.values() for name in f.digests}
            self._now = label
            try:
                yield
            finally:
                self._now = ""

    def _meet(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._now or event != "open" or not isinstance(arguments[0], str | Path):
            return
        path = Path(arguments[0])
        if path.is_relative_to(self.home) and not path.is_relative_to(self.home / "store"):
            self.steps.add(self._now)
            if path not in self._watched:
                self.unwatched.add(f"{self._now}: {path}")


def test_every_step_gives_the_same_bytes_again_and_opens_only_what_is_watched(
    home: Path, refs: dict[str, Ref], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(home / "store")
    opened = Opened(home)
    monkeypatch.setattr("tasks.engine.computation.watched", opened.watched)
    assert {"data", "decompose", "finetune transfer", "report"} <= set(refs)
    for label, ref in refs.items():
        work = tmp_path / label.replace(" ", "-")
        work.mkdir()
        found = reproduce(store, record(store, ref), work=work)
        assert {file.name for file in found.files} == set(ref.files)
        assert found.equal, (label, found.files)
        assert found.drift is None
    assert not opened.unwatched
    steps = {refs[label].step for label in opened.steps if label in refs}
    steps |= {label for label in opened.steps if label in STEPS}
    opens = {name for name, step in STEPS.items() if step.opens}
    # The pair has one tokenizer, so that extract has no need of it; neither model was trained here.
    assert steps == (opens - {"extract", "pretrain"}) | {"acquire-data", "acquire-model"}


def test_a_model_that_changes_meanwhile_gives_no_comparison(
    store: Store, refs: dict[str, Ref], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, other = home / "student" / "model.safetensors", tmp_path / "other"
    other.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    wrong = computing_from(STEPS["diagnose"], weights, other)
    monkeypatch.setattr("tasks.reproduce.STEPS", {**STEPS, "diagnose": wrong})
    with pytest.raises(CannotReproduceError, match=r"student at .* changed while it was read"):
        reproduce(store, record(store, refs["diagnose"]), work=tmp_path)


def test_models_trained_from_scratch_and_generated_data_too(tmp_path: Path) -> None:
    run = RunConfig(store=str(tmp_path / "store"), threads=1, device="cpu")
    shape = {"hidden_size": 16, "layers": 1, "ffn": 16, "heads": 2, "kv_heads": 2}
    recipe = PretrainingRecipe.model_validate({**shape, "task_steps": 3, "batch_size": 2})
    problems = WordProblemsConfig(sizes=SizesConfig(seeds=2, train=4, validation=2, test=4))
    made = run_step(pretrain, label="pretrain", config=recipe, inputs={}, run=run)
    config = ModelConfig(pretrain=recipe)
    model = run_step(acquire_model, label="model", config=config, inputs={"built": made}, run=run)
    data = run_step(word_problems, label="problems", config=problems, inputs={}, run=run)
    lines = [json.dumps({"prompt": f"tom has {n}", "answer": " eggs ."}) for n in range(8)]
    (tmp_path / "texts.jsonl").write_text("\n".join(lines))
    texts = DataConfig.model_validate(
        {
            "rows": {"path": str(tmp_path / "texts.jsonl")},
            "sizes": {"seeds": 1, "train": 4, "validation": 2, "test": 1},
        }
    )
    given = {"texts": run_step(acquire_data, label="texts", config=texts, inputs={}, run=run)}
    given["tokenizer"] = model
    other = run_step(pretrain, label="pretrain", config=recipe, inputs=given, run=run)
    assert other.key != made.key
    store = Store.open(tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "views")  # its folders are where the model was seen to lie
    for ref in (made, model, data):
        work = tmp_path / ref.step
        work.mkdir()
        assert reproduce(Store.open(store.root), record(store, ref), work=work).equal


def perturb(store: Store, ref: Ref, name: str, change: Any, folder: Path) -> Record:
    """Put a changed file into a record, as if another machine had computed it."""
    good = record(store, ref)
    shutil.copytree(store.tree_path(good), folder, symlinks=False)
    (folder / name).chmod(0o644)
    change(folder / name)
    return store.publish(good.payload, folder, provenance=good.provenance, replaces=good)


def scale_one(path: Path) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] *= 1.25
    save_file(tensors, path)


def test_a_tensor_that_differs_is_named_with_how_far(
    store: Store, refs: dict[str, Ref], tmp_path: Path
) -> None:
    name = "factors.safetensors"
    bad = perturb(store, refs["decompose"], name, scale_one, tmp_path / "bad")
    found = json.loads(cli(store, bad.key, "--json", code=1))
    assert not found["equal"]
    (file,) = [file for file in found["files"] if not file["equal"]]
    (tensor,) = file["differences"]
    assert file["name"] == name
    assert tensor["part"] == sorted(load_file(tmp_path / "bad" / name))[0]
    assert tensor["relative"] == pytest.approx(0.2, rel=1e-6)
    text = cli(store, bad.key, code=1)
    assert "1 differ" in text
    assert "relative difference 0.2" in text


def test_the_command_says_bit_equal_and_keeps_the_files(
    home: Path, refs: dict[str, Ref], tmp_path: Path
) -> None:
    store = Store.open(home / "store")
    before = set((home / "store" / "records").rglob("*.json"))
    text = cli(store, refs["align"].key[:12], "--out", str(tmp_path / "kept"), code=0)
    assert "all bit-equal" in text
    assert (tmp_path / "kept" / "out" / "layers.json").is_file()
    assert set((home / "store" / "records").rglob("*.json")) == before
    assert not list((home / "store" / "pins" / "live").iterdir())


def refused(store: Store, found: Record, tmp_path: Path, **places: Path) -> str:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    with pytest.raises(CannotReproduceError) as caught:
        reproduce(store, found, work=work, locations=places)
    assert not list(work.iterdir())  # before anything is computed
    return str(caught.value)


def test_an_older_record_says_what_is_missing(
    store: Store, refs: dict[str, Ref], tmp_path: Path
) -> None:
    good = record(store, refs["align"])
    old = {name: good.provenance[name] for name in ("libraries", "seconds")}
    message = refused(store, replace(good, provenance=old), tmp_path)
    assert "config" in message
    assert "inputs" in message
    assert "older version" in message


def test_a_missing_input_is_named(store: Store, refs: dict[str, Ref], tmp_path: Path) -> None:
    store.ledger.path(StepKey(refs["extract"].key)).unlink()
    message = refused(store, record(store, refs["decompose"]), tmp_path)
    assert "windows" in message
    assert refs["extract"].key[:12] in message
    assert "import" in message


def test_an_input_that_was_rebuilt_to_other_bytes_is_refused(
    store: Store, refs: dict[str, Ref], tmp_path: Path
) -> None:
    perturb(store, refs["decompose"], "factors.safetensors", scale_one, tmp_path / "bad")
    assert "other bytes" in refused(store, record(store, refs["lora"]), tmp_path)


def test_another_version_of_the_step_is_refused(
    store: Store, refs: dict[str, Ref], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import reproduce as module
    from tasks.align import align

    monkeypatch.setattr(module, "STEPS", {**module.STEPS, "align": replace(align, version=7)})
    message = refused(store, record(store, refs["align"]), tmp_path)
    assert "version: 1 then, 7 now" in message


@pytest.fixture
def moved(home: Path, tmp_path: Path) -> Any:
    """Move the teacher and the rows away for the time of a test."""
    places = {"teacher": home / "teacher", "rows": home / "rows.jsonl"}
    for path in places.values():
        path.rename(tmp_path / path.name)
    yield {name: tmp_path / path.name for name, path in places.items()}
    for path in places.values():
        (tmp_path / path.name).rename(path)


def test_a_model_that_moved_is_asked_for_and_checked(
    store: Store, refs: dict[str, Ref], tmp_path: Path, home: Path, moved: dict[str, Path]
) -> None:
    found = record(store, refs["decompose"])
    message = refused(store, found, tmp_path)
    assert str(home / "teacher") in message
    assert "--location teacher=PATH" in message
    message = refused(store, found, tmp_path, teacher=home / "other")
    assert "model.safetensors" in message
    message = refused(store, found, tmp_path, teecher=moved["teacher"])
    assert "teecher" in message
    assert "teacher" in message
    work = tmp_path / "there"
    work.mkdir()
    assert reproduce(store, found, work=work, locations={"teacher": moved["teacher"]}).equal


@pytest.mark.parametrize(
    ("label", "role", "place", "wrong"),
    [("teacher", "self", "teacher", "other"), ("data", "rows", "rows", "student/config.json")],
)
def test_what_a_step_itself_took_in_may_have_moved_too(
    store: Store,
    refs: dict[str, Ref],
    tmp_path: Path,
    home: Path,
    moved: dict[str, Path],
    label: str,
    role: str,
    place: str,
    wrong: str,
) -> None:
    found = record(store, refs[label])
    assert f"--location {role}=PATH" in refused(store, found, tmp_path)
    assert "inputs." in refused(store, found, tmp_path, **{role: home / wrong})
    text = cli(store, found.key, "--location", f"{role}={moved[place]}", code=0)
    assert "all bit-equal" in text


def test_what_cannot_be_done_exits_with_2(
    store: Store, refs: dict[str, Ref], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    store.ledger.path(StepKey(refs["extract"].key)).unlink()
    where = ["--store", str(store.root)]
    for key in (refs["decompose"].key, "0123"):
        monkeypatch.setattr("sys.argv", ["paraknow", "reproduce", key, *where])
        with pytest.raises(SystemExit) as ended:
            run_command()
        assert ended.value.code == 2
        assert key[:12] in capsys.readouterr().err
