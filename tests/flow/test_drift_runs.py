"""Runs that meet results of other code: served with a warning, refused, or computed again."""

import json
import logging
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.direct import computed, run_direct
from support.edited import edit_sources
from support.pair import pair_settings, write_pair
from support.patience import PATIENCE
from typer.testing import CliRunner

from artifacts.keys import KeyPayload
from artifacts.names import StepKey
from artifacts.records import Record
from artifacts.store import Store
from flows.cli.main import app
from flows.config.transfer import TransferConfig
from flows.planning.transfer import Plan, make_plan
from paraknow_core.errors import ConfigError
from paraknow_core.settings import Settings
from tasks.engine import run_step as step_module
from tasks.engine.code.drift import DriftError
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.stage import Stage
from tasks.engine.step import Job, Step

pytestmark = pytest.mark.flow

ALIGN, EXTRACT = "tasks/align.py:_compute", "tasks/extract.py:_compute"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pair(tmp_path_factory.mktemp("home"))
    run_direct(pair_settings(folder, folder / "store"), Stage.LORA)
    return folder


@pytest.fixture
def settings(home: Path, tmp_path: Path) -> dict[str, Any]:
    shutil.copytree(home / "store", tmp_path / "store", symlinks=True)
    return pair_settings(home, tmp_path / "store")


def under(settings: dict[str, Any], drift: str) -> dict[str, Any]:
    return {**settings, "run": {**settings["run"], "drift": drift}}


def plan(settings: dict[str, Any]) -> Plan:
    return make_plan(TransferConfig.model_validate(settings), Stage.LORA)


def statuses(settings: dict[str, Any]) -> dict[str, str]:
    return {step.label: step.status for step in plan(settings).steps}


def record(settings: dict[str, Any], key: str) -> Record:
    found = Store.open(Path(settings["run"]["store"])).lookup(StepKey(key))
    assert found is not None
    return found


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_hit_of_other_code_is_served_with_one_warning(
    settings: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert computed(run_direct(settings, Stage.LORA)) == set()
    assert warnings(caplog) == []
    edit_sources(tmp_path, monkeypatch, ALIGN)
    assert computed(run_direct(settings, Stage.LORA)) == set()
    (said,) = warnings(caplog)
    assert said.startswith("align:")
    assert "tasks.align changed" in said
    planned = plan(settings)
    assert planned.all_cached
    assert {name: drift.text() for name, drift in planned.drifted.items()} == {
        "align": "tasks.align changed"
    }
    planned.check()


def test_strict_refuses_before_anything_is_computed(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = under(settings, "strict")
    assert computed(run_direct(strict, Stage.LORA)) == set()
    edit_sources(tmp_path, monkeypatch, ALIGN, EXTRACT)
    with pytest.raises(DriftError) as caught:
        plan(strict).check()
    for name in ("align: tasks.align changed", "extract: tasks.extract changed", "--rebuild"):
        assert name in str(caught.value)
    store = Path(settings["run"]["store"])
    before = set(store.rglob("*.json"))
    with pytest.raises(DriftError, match="align"):
        run_direct({**strict, "align": {"strategy": "sensitivity"}}, Stage.LORA)
    assert set(store.rglob("*.json")) == before


def test_rebuild_computes_what_drifted_and_renews_its_provenance(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_direct(settings, Stage.LORA)
    edit_sources(tmp_path, monkeypatch, EXTRACT)
    rebuild = under(settings, "rebuild")
    planned = statuses(rebuild)
    assert planned["extract"] == "rebuild"
    assert planned["align"] == planned["plain lora"] == "cached"
    assert planned["decompose"] == planned["lora"] == "unknown"  # until extract's bytes are known
    assert not plan(rebuild).all_cached
    after = run_direct(rebuild, Stage.LORA)
    assert computed(after) == {"extract"}
    assert {label: ref.tree for label, ref in after.items()} == {
        label: ref.tree for label, ref in before.items()
    }
    assert record(settings, after["extract"].key).generation == 1
    assert record(settings, after["align"].key).generation == 0
    assert computed(run_direct(rebuild, Stage.LORA)) == set()
    assert plan(under(settings, "strict")).drifted == {}


def test_a_cheap_rebuilt_step_is_seen_through_by_the_plan(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_sources(tmp_path, monkeypatch, ALIGN)
    planned = statuses(under(settings, "rebuild"))
    assert {name for name, status in planned.items() if status != "cached"} == {"align"}
    assert planned["align"] == "rebuild"


def test_rebuilt_to_other_bytes_what_hangs_on_it_runs_again(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_direct(settings, Stage.LORA)
    edit_sources(tmp_path, monkeypatch, ALIGN)
    monkeypatch.setattr("tasks.align.choose_layers", lambda *_args, **_options: [0, 3])
    after = run_direct(under(settings, "rebuild"), Stage.LORA)
    assert computed(after) >= {"align", "extract", "decompose"}
    assert not computed(after) & {"teacher", "student", "data", "sensitivity", "plain lora"}
    assert after["align"].key == before["align"].key
    assert after["extract"].key != before["extract"].key
    assert record(settings, before["extract"].key).tree == before["extract"].tree


def test_the_command_takes_strict_and_rebuild(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(settings))

    def transfer(*options: str) -> Any:
        command = ["transfer", str(file), "--until", "lora", *options]
        return CliRunner().invoke(app, command)

    assert "be a hit" in transfer("--plan", "--strict").output
    edit_sources(tmp_path, monkeypatch, ALIGN)
    assert isinstance(transfer("--strict").exception, DriftError)
    refused = transfer("--plan", "--strict")
    assert isinstance(refused.exception, DriftError)
    assert "be a hit, drifted" in refused.output
    assert "be rebuilt" in transfer("--plan", "--rebuild").output
    assert isinstance(transfer("--strict", "--rebuild").exception, ConfigError)
    served = transfer()
    assert served.exit_code == 0
    assert "tasks.align changed" in " ".join(served.output.split())


def test_a_comparison_takes_strict_and_rebuild(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "compare.yaml"
    steps = ("lora", "decompose", "finetune", "evaluate")
    whole = {
        "pairs": [{"name": "one", "teacher": settings["teacher"], "student": settings["student"]}],
        "tasks": [{"name": "words", "data": settings["data"]}],
        "settings": {step: settings[step] for step in steps},
        "run": settings["run"],
    }
    file.write_text(yaml.safe_dump({"name": "drift", **whole}))

    def planned(*options: str) -> Any:
        return CliRunner().invoke(app, ["compare", str(file), "--plan", *options])

    hits = json.loads(planned("--json").output)["hits"]
    assert hits >= 7
    assert planned("--strict").exit_code == 0
    edit_sources(tmp_path, monkeypatch, ALIGN)
    assert "align drifted: tasks.align changed" in " ".join(planned().output.split())
    assert isinstance(planned("--strict").exception, DriftError)
    assert json.loads(planned("--rebuild", "--json").output)["hits"] < hits
    both = planned("--strict", "--rebuild").exception
    assert isinstance(both, ConfigError)


class Nothing(Settings):
    """No settings."""


def run_twice_at_once(store: Path, step: Step[Nothing], drift: str) -> list[bool]:
    run = RunConfig.model_validate({"store": str(store), "drift": drift})
    cached: list[bool] = []

    def once() -> None:
        found = run_step(step, label="slow", config=Nothing(), inputs={}, run=run)
        cached.append(found.cached)

    threads = [threading.Thread(target=once) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return cached


def test_two_that_rebuild_at_once_compute_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2)

    def compute(job: Job[Nothing]) -> dict[str, Any]:
        threading.Event().wait(1.5)
        (job.out / "a").write_bytes(b"a")
        return {}

    def is_first(_compute: Any, found: Record, _mode: str, *, label: str) -> bool:
        both.wait(PATIENCE)
        return found.generation == 0

    step = Step(name="slow", version=1, stage=Stage.REPORT, compute=compute)
    run = RunConfig(store=str(tmp_path))
    first = run_step(step, label="slow", config=Nothing(), inputs={}, run=run)
    monkeypatch.setattr(step_module, "must_rebuild", is_first)
    assert sorted(run_twice_at_once(tmp_path, step, "rebuild")) == [False, True]
    found = Store.open(tmp_path).lookup(StepKey(first.key))
    assert found is not None
    assert found.generation == 1


def test_waiting_to_rebuild_goes_on_until_a_newer_record_is_there(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    payload = KeyPayload(step="slow", version=1, config={}, inputs={})
    old = store.publish(payload, {"a": b"1"})
    with store.lease(old.key), store.lease(old.key, replaces=old, wait=1.2) as held:
        assert not held  # the old record did not end the wait, the time did
    waits: list[float] = []

    def on_wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            store.publish(payload, {"a": b"2"}, replaces=old)

    with store.lease(old.key), store.lease(old.key, replaces=old, on_wait=on_wait):
        assert len(waits) == 2
    found = store.lookup(old.key)
    assert found is not None
    assert found.generation == 1
