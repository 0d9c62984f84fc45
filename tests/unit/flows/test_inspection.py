"""The report before anything runs: what would be cut, what not, and whether it can run at all."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.sparse import LLAMA_1B, LLAMA_8B, sparse_model
from support.tiny import tiny_model, tiny_tokenizer
from typer.testing import CliRunner, Result

from flows.cli.main import app
from flows.inspection import needs
from flows.inspection.pair import InspectionRequest, inspect_pair
from paraknow_core.errors import ModelFolderError, ParaknowError
from paraknow_core.inspection.compatibility import compare_vocabularies
from paraknow_core.inspection.machine import Machine
from paraknow_core.inspection.work import Work

GB = 10**9


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fixed machine and disk in place of measurements, and no store anywhere."""
    fixed = Machine("cpu", 2, 100e9, 50e9, 10e9, 100 * GB, 90 * GB)
    monkeypatch.setattr(needs, "measured", lambda _dtype: fixed)
    monkeypatch.setattr("flows.inspection.pair.measured", lambda _dtype: fixed)
    monkeypatch.setattr("flows.inspection.pair.free_bytes", lambda _place: 100 * GB)
    monkeypatch.setenv("PARAKNOW_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "teacher", hidden=48, layers=4, ffn=96)
    tiny_model(folder / "student", layers=2)
    tiny_model(folder / "tied", "qwen2", tied=True, layers=2)
    tiny_model(folder / "deep", layers=5)
    tiny_model(folder / "words", layers=2, vocab=60)
    tiny_tokenizer(60).save_pretrained(folder / "words")
    foreign = tiny_model(folder / "foreign", layers=2) / "tokenizer.json"
    text = foreign.read_text()
    for row in range(50):
        text = text.replace(f'"w{row}"', f'"other{row}"')
    foreign.write_text(text)
    return folder


def report(models: Path, teacher: str, student: str, **settings: Any) -> Any:
    settings = {"rank": 8} | settings
    return inspect_pair(InspectionRequest(str(models / teacher), str(models / student), **settings))


def command(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_a_good_pair_can_run(models: Path, tmp_path: Path) -> None:
    found = report(models, "teacher", "student")
    assert found.can_run
    rows = {r.role: (r.teacher_shapes, r.student_shapes, r.count) for r in found.pair.roles}
    assert rows["down"] == (((48, 96),), ((32, 64),), 2)
    assert rows["k"] == (((24, 48),), ((16, 32),), 2)
    assert rows["head"] == (((64, 48),), ((64, 32),), 1)
    assert (found.pair.max_rank, found.vocabularies.equal) == (16, True)
    assert not (tmp_path / "store").exists()


def test_a_tied_head_is_skipped_and_says_why(models: Path) -> None:
    found = report(models, "teacher", "tied")
    assert found.can_run
    head = found.pair.roles[-1]
    assert (head.role, head.status, head.count) == ("head", "skipped", 0)
    assert "tied" in head.reason


def test_a_pair_of_two_families_says_what_one_of_them_lacks(models: Path, tmp_path: Path) -> None:
    """GPT-2 has no gate, and its three attention projections lie in one fused tensor."""
    tiny_model(tmp_path / "gpt2", "gpt2", layers=2, kv_heads=4)
    found = inspect_pair(InspectionRequest(str(models / "teacher"), str(tmp_path / "gpt2"), rank=4))
    rows = {r.role: r for r in found.pair.roles}
    assert rows["gate"].status == "skipped"
    assert "gpt2" in rows["gate"].reason
    assert rows["q"].student_shapes == ((32, 32),)


def test_unwanted_roles_are_skipped(models: Path) -> None:
    found = report(models, "teacher", "student", roles=("q", "embed"))
    assert {r.role for r in found.pair.roles if r.status == "cut"} == {"q", "embed"}
    assert {r.reason for r in found.pair.roles if r.status == "skipped"} == {
        "not among the wanted roles"
    }


@pytest.mark.parametrize(
    ("teacher", "student", "settings", "message"),
    [
        ("student", "teacher", {}, "wider than the teacher"),
        ("student", "deep", {}, "5 layers, the teacher only 2"),
        ("teacher", "foreign", {}, "tokenizers differ"),
        ("teacher", "student", {"rank": 17}, "Rank 17 is above 16"),
    ],
)
def test_what_cannot_run_says_what_to_change(
    models: Path, teacher: str, student: str, settings: dict[str, Any], message: str
) -> None:
    found = report(models, teacher, student, **settings)
    assert not found.can_run
    assert [p.kind for p in found.problems if message in p.message] == ["pair"]


def test_different_tokenizers_can_run_without_embedding_and_head(models: Path) -> None:
    found = report(models, "teacher", "words", roles=("q", "up"))
    assert found.can_run
    words = found.vocabularies
    assert (words.equal, words.shared, words.same_row) == (False, 1.0, 1.0)
    rows = {r.role: r for r in report(models, "teacher", "words").pair.roles}
    assert rows["embed"].reason == "100.0 % of the rows, matched by token"


def test_overlap_is_counted_by_text_and_by_row() -> None:
    found = compare_vocabularies(
        {"a": 0, "b": 1, "c": 2},
        {"a": 0, "b": 2, "x": 1, "y": 3},
        teacher_rows=3,
        student_rows=4,
    )
    assert (found.shared, found.same_row) == (0.5, 0.25)
    assert (found.teacher_tokens, found.student_tokens, found.equal) == (3, 4, False)


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    sparse_model(folder / "8b", **LLAMA_8B)
    sparse_model(folder / "1b", **LLAMA_1B)
    return folder


def test_estimates_of_a_real_pair_are_of_the_right_size(big: Path) -> None:
    """8B to 1B at 100 GFLOP/s: 6 × 7.5e9 weights × 32 × 256 tokens is about an hour."""
    found = report(big, "8b", "1b", rank=16)
    by_step = {step.step: step for step in found.steps}
    assert found.teacher.num_parameters == 8_030_261_248
    assert by_step["sensitivity"].memory_bytes == pytest.approx(
        8 * found.teacher.num_parameters, rel=0.1
    )
    assert 3600 < by_step["sensitivity"].seconds < 7200
    assert 6 * 3600 < by_step["finetune"].seconds < 24 * 3600
    assert 20 < by_step["extract"].seconds < 200
    assert 20 < by_step["decompose"].seconds < 600


def on_a_machine_of(memory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Machine("cpu", 2, 1e11, 1e11, 1e10, memory * GB, memory * GB)
    monkeypatch.setattr("flows.inspection.pair.measured", lambda _dtype: small)


def test_a_machine_too_small_is_a_problem_with_a_way_out(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for memory, expected in ((25, "or --dtype bfloat16"), (12, "larger machine.")):
        on_a_machine_of(memory, monkeypatch)
        (problem,) = report(big, "8b", "8b").problems
        assert problem.kind == "machine"
        assert "finetune needs about" in problem.message
        assert expected in problem.message


def test_a_teacher_larger_than_the_memory_is_read_layer_by_layer(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for memory, needed in ((60, 4.4), (80, 67.5)):
        on_a_machine_of(memory, monkeypatch)
        found = report(big, "8b", "1b")
        assert not found.problems
        step = next(step for step in found.steps if step.step == "sensitivity")
        assert step.memory_bytes == pytest.approx(needed * GB, rel=0.01)
        told = [note for note in found.notes if "layer by layer, in about 4.4 GB instead" in note]
        assert len(told) == (memory == 60)


def test_a_disk_too_small_is_a_problem_that_names_it(
    big: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("flows.inspection.pair.free_bytes", lambda p: asked.append(p) or 60 * GB)
    found = report(big, "8b", "1b")
    (problem,) = found.problems
    assert problem.kind == "machine"
    assert f"64.7 GB of disk, and {tmp_path / 'store'} has 60.0 GB free" in problem.message
    assert asked == [tmp_path]  # the store is not there yet: its nearest folder is asked
    monkeypatch.setattr("flows.inspection.pair.free_bytes", lambda _place: found.disk_bytes)
    assert report(big, "8b", "1b").can_run


def test_a_batch_too_large_is_no_problem_but_said(
    big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine("cpu", 2, 1e11, 1e11, 1e10, 70 * GB, 70 * GB)
    monkeypatch.setattr("flows.inspection.pair.measured", lambda _dtype: machine)
    found = report(big, "8b", "1b")
    assert found.can_run
    (note,) = [note for note in found.notes if "By default" in note]
    assert "finetune.micro_batch_size" in note


def test_time_adds_up_from_rates() -> None:
    work = Work(flops=10, flops64=6, moved=8)
    assert work.seconds(flops=5, flops64=3, bandwidth=2) == 8


def test_exit_codes_and_text_at_80_columns(models: Path) -> None:
    good = command(models / "teacher", models / "student", "--rank", 8)
    assert (good.exit_code, "Verdict: can run." in good.output) == (0, True)
    bad = command(models / "student", models / "teacher", "--rank", 8)
    assert bad.exit_code == 1
    assert "Verdict: cannot run" in bad.output
    for result in (good, bad):
        assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/no/such/folder"], "/no/such/folder"),
        (["organisation/name"], "--download"),
        (["STUDENT", "--roles", "nope"], "nope"),
        (["STUDENT", "--structure", "nope"], "unknown structure 'nope'"),
        (["STUDENT", "--dtype", "int3"], "int3"),
    ],
)
def test_bad_input_is_an_error(
    models: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    given = [str(models / "student") if a == "STUDENT" else a for a in arguments]
    result = command(models / "teacher", *given)
    assert isinstance(result.exception, ParaknowError)  # the command's main turns it into 2
    assert message in str(result.exception)


def test_a_folder_without_weights_is_an_error(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no weights"):
        inspect_pair(InspectionRequest(str(models / "teacher"), str(tmp_path)))


def test_json_has_stable_names(models: Path) -> None:
    result = command(models / "teacher", models / "student", "--rank", 8, "--json")
    found = json.loads(result.output)
    assert set(found) == {
        *("can_run", "problems", "notes", "settings", "teacher", "student", "vocabulary"),
        *("roles", "rank", "machine", "rates", "steps", "disk"),
    }
    assert found["can_run"] is True
    assert set(found["teacher"]) == {
        *("model_type", "parameters", "weight_bytes", "dtypes", "layers", "hidden_size"),
        *("intermediate_size", "heads", "kv_heads", "head_dim", "vocab_size", "tied", "roles"),
    }
    assert set(found["roles"][0]) == {
        *("role", "teacher_shapes", "student_shapes", "count", "status", "reason"),
    }
    assert set(found["steps"][0]) == {"step", "memory_bytes", "disk_bytes", "seconds"}
    assert set(found["vocabulary"]) == {
        *("equal", "teacher_tokens", "student_tokens", "shared", "same_row"),
    }
    assert found["rank"] == {
        "asked": 8,
        "max": 16,
        "limited_by": "model.layers.0.self_attn.k_proj.weight",
        "delivered": 16,
    }
