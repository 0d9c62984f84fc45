"""Drift of a record against the present code and libraries."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.edited import NEW_ENTRIES, copy_of_sources

from artifacts.keys import KeyPayload
from artifacts.names import Digest
from artifacts.records import Record
from tasks.engine.code import drift
from tasks.engine.code.drift import DriftError, drift_of, must_rebuild
from tasks.engine.code.reached import Sources
from tasks.engine.provenance import code_of, environment
from tasks.steps import STEPS


def record_of(step: str, **changes: Any) -> Record:
    """A record of a step as the present code would make it, but for ``changes``."""
    made = {**environment(), "code": code_of(STEPS[step].compute), **changes}
    payload = KeyPayload(step=step, version=1, config={}, inputs={})
    return Record(
        key=payload.key(), payload=payload, tree=Digest("0" * 64), files={}, provenance=made
    )


def found(step: str, **changes: Any) -> drift.Drift | None:
    return drift_of(STEPS[step].compute, record_of(step, **changes))


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    return copy_of_sources(tmp_path, monkeypatch)


@pytest.mark.parametrize("step", sorted(STEPS))
def test_nothing_drifts_under_the_code_that_made_it(step: str) -> None:
    assert found(step) is None


def test_without_a_change_nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    records = {name: record_of(name) for name in STEPS}

    def parse(_self: Sources, name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(Sources, "parse", parse)
    for name, record in records.items():
        assert drift_of(STEPS[name].compute, record) is None


def test_changed_code_is_named_for_the_steps_that_reach_it(edited: Any) -> None:
    edited("paraknow_core/svd/truncated.py", "def truncated_svd(", "@edited\ndef truncated_svd(")
    difference = found("decompose")
    assert difference is not None
    assert difference.modules == {"paraknow_core.svd.truncated": "changed"}
    assert difference.libraries == {}
    for other in ("align", "sensitivity", "extract", "lora", "finetune", "evaluate"):
        assert found(other) is None


def test_moving_code_is_no_drift(edited: Any, tmp_path: Path) -> None:
    edited("paraknow_core/svd/truncated.py", "def truncated_svd(", "def truncated_svd(")
    home = tmp_path / "paraknow_core"
    (home / "algebra").mkdir()
    (home / "algebra" / "__init__.py").touch()
    (home / "svd" / "truncated.py").rename(home / "algebra" / "lowrank.py")
    for file in tmp_path.rglob("*.py"):
        old, new = "paraknow_core.svd.truncated ", "paraknow_core.algebra.lowrank "
        file.write_text(file.read_text().replace(old, new))
    assert {name for name in STEPS if found(name) is not None} == set()


def test_a_function_that_moves_to_another_file_is_no_drift(edited: Any, tmp_path: Path) -> None:
    (tmp_path / "tasks/chosen.py").write_text("def pick():\n    return 1\n")
    edited("tasks/align.py", "def _compute(", "def _away():\n    return pick()\n\n\ndef _compute(")
    edited("tasks/align.py", "    table = read_json", "    _away()\n    table = read_json")
    edited(
        "tasks/align.py",
        "from tasks.engine.json_files",
        "from tasks.chosen import pick\nfrom tasks.engine.json_files",
    )
    sources = drift.present()
    before = sources.reached("tasks.align", "_compute")
    text = (tmp_path / "tasks/chosen.py").read_text()
    edited("tasks/align.py", "from tasks.chosen import pick\n", "")
    edited("tasks/align.py", "class AlignConfig", f"{text}\n\nclass AlignConfig")
    after = drift.present().reached("tasks.align", "_compute")
    assert before.digest == after.digest
    assert before.modules != after.modules
    edited("tasks/align.py", "    return 1\n", "    return 2\n")
    assert drift.present().reached("tasks.align", "_compute").digest != before.digest


@pytest.mark.parametrize("file", NEW_ENTRIES)
def test_an_entry_that_is_added_to_a_registry_drifts_nothing(edited: Any, file: str) -> None:
    before, entry = NEW_ENTRIES[file]
    records = {step: record_of(step) for step in STEPS}
    edited(file, before, f"{entry}, {before}")
    assert {n for n, r in records.items() if drift_of(STEPS[n].compute, r) is not None} == set()


def test_a_changed_entry_drifts_what_used_it(edited: Any) -> None:
    edited("paraknow_core/alignment/layers.py", '"last": _last', '"last": _first')

    def drifted(name: str) -> bool:
        code = code_of(STEPS["align"].compute, used={"layer strategy": [name]})
        return found("align", code=code) is not None

    assert drifted("last")
    assert not drifted("first")


def test_a_comment_is_no_drift(edited: Any) -> None:
    edited(
        "paraknow_core/svd/truncated.py", "def truncated_svd(", "# the heart\ndef truncated_svd("
    )
    assert found("decompose") is None


def test_a_module_used_now_and_one_no_longer(edited: Any) -> None:
    new = "from json import read_json, write_json"
    edited("tasks/align.py", "from tasks.engine.json_files import read_json, write_json", new)
    new = "from paraknow_core.durable_files import settle\n    table = read_json"
    edited("tasks/align.py", "table = read_json", new)
    difference = found("align")
    assert difference is not None
    assert difference.modules == {
        "paraknow_core.durable_files": "new",
        "tasks.align": "changed",
        "tasks.engine.json_files": "changed",  # read as before; nothing writes
    }


def test_a_library_counts_where_the_step_uses_it_or_what_is_built_on_it() -> None:
    older = {**environment()["libraries"], "torch": "2.0.0"}
    now = environment()["libraries"]["torch"]
    drifted = {name for name in STEPS if found(name, libraries=older)}
    assert drifted >= {"sensitivity", "decompose", "finetune", "evaluate", "acquire-model"}
    assert not drifted & {"align", "word-problems", "acquire-data"}
    difference = found("decompose", libraries=older)
    assert difference is not None
    assert difference.text() == f"torch 2.0.0 → {now}"


def test_a_library_that_is_gone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    record = record_of("decompose")
    monkeypatch.setattr(drift, "library_version", lambda name: "not installed")
    difference = drift_of(STEPS["decompose"].compute, record)
    assert difference is not None
    assert difference.libraries["scipy"] == (environment()["libraries"]["scipy"], "not installed")


@pytest.mark.parametrize("code", ["0" * 64, None, {"modules": 3}])
def test_an_older_record_is_compared_by_its_libraries_only(edited: Any, code: object) -> None:
    edited("paraknow_core/svd/truncated.py", "def truncated_svd(", "@edited\ndef truncated_svd(")
    assert found("decompose", code=code) is None
    assert found("decompose", code=code, libraries={"torch": "2.0.0"}) is not None


def test_a_record_that_says_nothing_has_no_drift() -> None:
    assert found("decompose", code=None, libraries=None) is None


def test_strict_refuses_warn_serves_and_rebuild_computes(caplog: pytest.LogCaptureFixture) -> None:
    older, compute = (
        record_of("decompose", libraries={"torch": "2.0.0"}),
        STEPS["decompose"].compute,
    )
    with pytest.raises(DriftError, match=r"(?s)svd.*torch 2\.0\.0.*--rebuild"):
        must_rebuild(compute, older, "strict", label="svd")
    assert must_rebuild(compute, older, "rebuild", label="svd")
    assert not caplog.records
    assert not must_rebuild(compute, older, "warn", label="svd")
    (said,) = caplog.records
    assert said.levelname == "WARNING"
    assert "torch 2.0.0 →" in said.getMessage()
    for mode in ("strict", "rebuild", "warn"):
        assert not must_rebuild(compute, record_of("decompose"), mode, label="svd")
    assert len(caplog.records) == 1
