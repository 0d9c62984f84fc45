"""What plans say of hours, cost, disk and a budget."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.pair import pair_settings, write_pair
from typer.testing import CliRunner

from flows.cli.main import app
from flows.config.transfer import TransferConfig
from flows.planning.compare import ComparePlan
from flows.planning.durations import START_SECONDS, TASK_SECONDS
from flows.planning.planner import PlannedStep
from flows.planning.transfer import Plan, make_plan
from paraknow_core.errors import BudgetError, ModelFolderError
from paraknow_core.inspection.laws import SlotRates
from tasks.engine.estimates import Estimate
from tasks.engine.stage import Stage

RATES = SlotRates(flops=2e9, flops64=1e9, bandwidth=3e9, told="as assumed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair of which only configs and tokenizers are here."""
    place = write_pair(tmp_path_factory.mktemp("pair"))
    for name in ("teacher", "student"):
        (place / name / "model.safetensors").unlink()
    shutil.rmtree(place / "other")
    return place


def planned(folder: Path, store: Path, **budget: float) -> Plan:
    settings = pair_settings(folder, store) | {"budget": budget}
    return make_plan(TransferConfig.model_validate(settings), Stage.REPORT, lambda: RATES)


def test_hours_are_the_work_of_one_step_after_another(folder: Path, tmp_path: Path) -> None:
    plan = planned(folder, tmp_path / "store", price=7.0)
    timed = [step for step in plan.to_run if step.estimate.work is not None]
    assert {step.step for step in timed} >= {"sensitivity", "finetune", "evaluate"}
    assert [step.step for step in timed].count("evaluate") == 3  # vanilla, plain, transfer
    work = [step.estimate.work for step in timed]
    seconds = START_SECONDS + TASK_SECONDS * len(plan.to_run)
    for one in filter(None, work):
        seconds += one.seconds(flops=2e9, flops64=1e9, bandwidth=3e9)
    assert plan.hours == pytest.approx(seconds / 3600)
    assert plan.cost == pytest.approx(7 * plan.hours)
    assert plan.estimated == len(timed)
    told = json.loads(plan.to_json())
    assert told["hours"] == plan.hours
    assert told["untimed"] == len(plan.to_run) - len(timed)
    assert plan.lacking  # no weights: enough for a plan, and not for a run
    with pytest.raises(ModelFolderError):
        plan.check()


def test_a_plan_beyond_its_budget_is_refused(tmp_path: Path) -> None:
    whole = write_pair(tmp_path / "pair")
    limits = {"hours": 1e-6, "flops": 2e9, "bandwidth": 3e9}
    settings = pair_settings(whole, tmp_path / "store")
    plan = make_plan(TransferConfig.model_validate(settings | {"budget": limits}), Stage.REPORT)
    with pytest.raises(BudgetError, match=r"hours: about .*, allowed 1e-06"):
        plan.check()
    untimed = make_plan(TransferConfig.model_validate(settings), Stage.REPORT)
    assert json.loads(untimed.to_json())["hours"] is None  # nobody asked


def test_the_command_tells_hours_and_cost(folder: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = pair_settings(folder, tmp_path / "store")
    settings["budget"] = {"flops": 2e9, "bandwidth": 3e9, "price": 3}
    config = tmp_path / "pair.yaml"
    config.write_text(json.dumps(settings))
    runner = CliRunner(env={"COLUMNS": "200"})
    done = runner.invoke(app, ["transfer", str(config), "--plan"])
    assert done.exit_code == 0, done.output
    assert "steps, about 0.0" in done.output
    assert "at rates as given: 0.002 TFLOP/s" in done.output
    assert "Cost: about 0.0" in done.output
    assert "at 3 an hour of a machine" in done.output


def test_what_other_machines_store_is_not_counted_against_this_ones_disk(tmp_path: Path) -> None:
    def step(name: str, size: int, *after: PlannedStep) -> PlannedStep:
        return PlannedStep(name, step=name, estimate=Estimate(disk_bytes=size), after=after)

    trained = step("finetune", 1000)
    measured = step("evaluate", 40, trained)
    report = step("comparison", 3, measured)

    def plan(free: int, *, away: bool) -> ComparePlan:
        return ComparePlan(
            steps=[trained, measured, report],
            store=tmp_path,
            free_bytes=free,
            report=report,
            stored_elsewhere=away,
        )

    here, away = plan(500, away=False), plan(500, away=True)
    assert (here.disk_here, away.disk_here, away.disk_bytes) == (1043, 43, 1043)
    assert here.lack_of_room().startswith("disk: about 1")
    assert away.lack_of_room() == ""
    assert plan(42, away=True).lack_of_room()
