"""Results that version 0.2.0 stored are hits, without a warning, however the code is laid out.

``tests/data/results_of_0_2_0`` holds the configs of two transfers and a comparison, and of the
store that version 0.2.0 made of them every record and the small objects: all 20 steps are there.
"""

import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.edited import NEW_ENTRIES, copy_of_sources

from artifacts.objects import Objects
from artifacts.queries.lineage import Lineage
from artifacts.records import Record
from artifacts.store import Store
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.planning.compare import make_compare_plan
from flows.planning.transfer import make_plan
from tasks.engine.code import drift
from tasks.engine.code.drift import drift_of
from tasks.engine.stage import Stage
from tasks.steps import STEPS

FOLDER = Path(__file__).parents[2] / "data" / "results_of_0_2_0"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("old") / "store"
    with tarfile.open(FOLDER / "store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return Store.open(folder)


@pytest.fixture(autouse=True)
def same_libraries(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries of that time, whatever is installed: a renewed lock is drift of its own."""
    libraries = next(store.records()).provenance["libraries"]
    monkeypatch.setattr(drift, "library_version", libraries.__getitem__)


@pytest.fixture(autouse=True)
def large_objects_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are not in the archive; a lookup asks for them by digest only."""
    monkeypatch.setattr(Objects, "is_intact", lambda *_args, **_options: True)


def settings(name: str, store: Store) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    found["run"] |= {"store": str(store.root), "drift": "strict"}
    if "data" in found:
        found["data"]["rows"]["path"] = str(FOLDER / "rows.jsonl")
    return found


def test_every_step_is_among_the_results(store: Store) -> None:
    newer = {"arrival", "compose", "novel-tokens", "signal-start", "teacher-logits", "transport"}
    newer |= {"benchmark", "benchmark-tasks", "dense-experts", "dequantise", "win-rate"}
    assert {record.step for record in store.records()} == STEPS.keys() - newer


def test_no_step_is_made_of_a_later_stages_output(store: Store) -> None:
    """So a run that ends with a stage has all that its steps are made of."""
    made_of = Lineage.of(store)
    pairs = {(i.step, record.step) for record in store.records() for i in made_of.inputs(record)}
    wrong = [
        (before, after)
        for before, after in pairs
        if before and not STEPS[before].stage.is_within(STEPS[after].stage)
    ]
    assert len(pairs) >= 20
    assert wrong == []


def records_in_use(store: Store) -> list[Record]:
    """Those whose step still has the version that made them; of others the key is another now."""
    return [r for r in store.records() if r.payload.version == STEPS[r.step].version]


def test_only_the_rule_of_contamination_is_another(store: Store) -> None:
    used = {record.step for record in records_in_use(store)}
    assert {record.step for record in store.records()} - used == {"contamination"}


def test_no_result_drifted(store: Store) -> None:
    for record in records_in_use(store):
        assert drift_of(STEPS[record.step].compute, record) is None, record.step


def test_entries_added_to_registries_drift_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those results do not say which entries they used, but they cannot have used a new one."""
    edit = copy_of_sources(tmp_path, monkeypatch)
    for file, (before, entry) in NEW_ENTRIES.items():
        edit(file, before, f"{entry}, {before}")
    one_of_each = {record.step: record for record in records_in_use(store)}
    for name, record in one_of_each.items():
        assert drift_of(STEPS[name].compute, record) is None, name
    edit("paraknow_core/alignment/layers.py", '"last": _last', '"last": _first')
    assert drift_of(STEPS["align"].compute, one_of_each["align"]) is not None


@pytest.mark.parametrize(
    ("name", "until"), [("transfer", Stage.REPORT), ("structures", Stage.LORA)]
)
def test_a_strict_transfer_finds_all_its_results(store: Store, name: str, until: Stage) -> None:
    plan = make_plan(TransferConfig.model_validate(settings(name, store)), until)
    plan.check()
    assert {step.label: step.status for step in plan.steps if step.status != "cached"} == {}
    assert plan.drifted == {}


def test_a_strict_comparison_finds_all_its_results(store: Store) -> None:
    """All but its report, which is written again as its sentences are others now (``words``).

    What the splits share is told by another rule since (contamination, version 2), and at once.
    """
    plan = make_compare_plan(CompareConfig.model_validate(settings("compare", store)))
    assert plan.drifted == {}
    assert [step.label for step in plan.steps if step.status != "cached"] == [
        "contamination",
        "report",
    ]
