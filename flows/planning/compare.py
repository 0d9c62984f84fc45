"""What a comparison would do: steps to run, steps shared, hits, hours, disk. Runs nothing."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from artifacts.errors import StoreError
from artifacts.room import store_free_bytes
from flows.config.cells import PairConfig, TaskConfig
from flows.config.compare import CompareConfig
from flows.config.limits import BudgetConfig
from flows.fan_out.units import open_units
from flows.graph.arm import Arm, ArmOutcome, run_arm
from flows.graph.cell import Cell, CellOutcome
from flows.graph.pair import ModelPair, acquire_pair
from flows.graph.runner import Handle
from flows.graph.stored import ElsewhereRun
from flows.planning.compare_planner import ComparePlanner
from flows.planning.design import blind_spots, counted_items, visible_by_items
from flows.planning.durations import History
from flows.planning.hours import TimedPlan, refuse_beyond
from flows.planning.planner import PlannedStep
from flows.planning.rates import given_rates
from flows.planning.schedule import scheduled_hours
from flows.results.report_inputs import start_report
from paraknow_core.errors import ParaknowError
from paraknow_core.inspection.laws import SlotRates


@dataclass(frozen=True, kw_only=True)
class ComparePlan(TimedPlan):
    """The distinct steps of a comparison, and what they need.

    Attributes:
        failures: what cannot run, a sentence each.
        slots: how many steps compute at the same time.
        more_trials: trainings that may be added, where a best rate lies at the end of its grid.
        outcomes: what is known of every cell; all of it where nothing is left to compute.
        report: the comparison's report.
        blind_spots: what cannot be shown, however the numbers come out, a sentence each.
        visible: says how small a difference the test items can show, a sentence each; takes
            SciPy, so only who is to be told asks for it.
        runs: names of the runs that would compute cells elsewhere; None if all is computed here.
        stored_elsewhere: whether they have stores of their own, and share a tier with this one.
    """

    failures: list[str] = field(default_factory=list)
    slots: int = 1
    more_trials: int = 0
    outcomes: list[CellOutcome] = field(default_factory=list)
    report: Handle | None = None
    blind_spots: list[str] = field(default_factory=list)
    visible: Callable[[], list[str]] = list
    runs: list[str] | None = None
    stored_elsewhere: bool = False

    @property
    def asked(self) -> int:
        """How often the wiring asked for a step."""
        return sum(step.uses for step in self.steps)

    @property
    def all_cached(self) -> bool:
        """Whether nothing is left to compute, and nothing failed."""
        return super().all_cached and not self.failures

    @property
    def disk_here(self) -> int:
        """Of cells that are computed and stored elsewhere only what the report reads comes here."""
        if not self.stored_elsewhere or not isinstance(self.report, PlannedStep):
            return self.disk_bytes
        read = {id(step): step for step in (self.report, *self.report.after)}
        return sum(step.size for step in read.values() if step.status != "cached" or step.remote)

    def stored_report(self) -> Handle:
        """Return the report of a comparison of which all is stored."""
        assert self.report is not None  # noqa: S101 - a plan that could be made has one
        return self.report

    def check(self, budget: BudgetConfig) -> None:
        """Refuse a plan beyond its budget or the disk, and if the run is strict, drifted results.

        Raises:
            BudgetError: names each limit and what the plan would take.
            ModelFolderError, DriftError: as `check_complete` and `check_drift`.
        """
        self.check_complete()
        self.check_drift()
        beyond = [*self.beyond(budget), *filter(None, [self.lack_of_room()])]
        refuse_beyond(
            beyond, "Take fewer pairs, methods, learning rates or seeds, or raise the budget."
        )

    def table(self) -> list[dict[str, Any]]:
        """One row a kind of step: how often asked for, how many distinct, hits, to run."""
        rows: dict[str, dict[str, Any]] = {}
        for step in self.steps:
            row = rows.setdefault(
                step.step,
                {"step": step.step, "asked": 0, "distinct": 0, "hits": 0, "run": 0}
                | {"seconds": 0.0, "untimed": 0, "estimated": 0, "memory_bytes": 0}
                | {"disk_bytes": 0},
            )
            row["asked"] += step.uses
            row["distinct"] += 1
            row["hits"] += step.status == "cached"
            if step.status != "cached":
                row["run"] += 1
                row["seconds"] += step.seconds or 0.0
                row["untimed"] += step.seconds is None
                row["estimated"] += step.by_rates
                row["memory_bytes"] = max(row["memory_bytes"], step.estimate.memory_bytes or 0)
                row["disk_bytes"] += step.estimate.disk_bytes or 0
        return list(rows.values())

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        whole = {
            "steps": self.table(),
            "to_run": len(self.to_run),
            "hits": len(self.steps) - len(self.to_run),
            "remote_hits": len(self.brought),
            "more_trials": self.more_trials,
            "shared": self.asked - len(self.steps),
            "hours": self.hours,
            "untimed": self.untimed,
            "estimated": self.estimated,
            "rates": self.rates and self.rates.told,
            "cost": self.cost if self.price else None,
            "memory_bytes": self.memory_bytes,
            "lacking": self.lacking,
            "judging": asdict(self.judging) if self.judging else None,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "drifted": {label: drift.text() for label, drift in self.drifted.items()},
            "failures": self.failures,
            "blind_spots": self.blind_spots,
            "visible": self.visible(),
            "runs": self.runs,
            "store": str(self.store),
        }
        return json.dumps(whole, indent=1)


def _plan_arm(arm: Arm, planner: ComparePlanner) -> ArmOutcome:
    """Plan one method; its own settings are checked as if it were the only one."""
    try:
        pair = acquire_pair(arm.settings, planner, methods=(arm.config.start,))
        return run_arm(arm, pair, planner, planner.together)
    except (ParaknowError, StoreError) as error:
        return ArmOutcome(arm.config.name, arm.config.start, reason=str(error))


def _failures(outcomes: Sequence[CellOutcome]) -> list[str]:
    found = [f"{o.pair.name} on {o.task.name}: {o.reason}" for o in outcomes if o.reason]
    for outcome in outcomes:
        found += [
            f"{outcome.pair.name} on {outcome.task.name}, {arm.name}: {reason}"
            for arm in outcome.arms
            for reason in sorted({arm.reason, *(t.reason for t in arm.trials)} - {""})
        ]
    return found


def _more_trials(config: CompareConfig, outcomes: Sequence[CellOutcome]) -> int:
    """The most trials beyond those that the plan counts, of searches that are not over."""
    searches = {arm.name: config.search_of(arm) for arm in config.arms}
    undecided = [
        searches[arm.name]
        for outcome in outcomes
        for arm in outcome.arms
        if arm.rate is None and not (arm.reason or arm.diverged)
    ]
    return sum(search.most() - len(search.without_surprise()) for search in undecided)


def make_compare_plan(
    config: CompareConfig, rates: Callable[[], SlotRates | None] | None = None
) -> ComparePlan:
    """Plan a comparison; raises what of its settings cannot work.

    Where the rates are not tuned yet, the steps of the test seeds are counted, but not looked up.

    Args:
        config: the comparison.
        rates: finds those for the time of steps whose like never ran here; without it they are
            what the settings give, and nothing is measured.

    Raises:
        ParaknowError: if no pair can be compared at all.
    """
    config.check()
    store = config.run.open_store()
    away = config.fan_out.deployment != ""
    runs_at_once = config.fan_out.in_flight if away else 1
    with tempfile.TemporaryDirectory(prefix="paraknow-plan-") as aside:
        planner = ComparePlanner(
            ElsewhereRun(**dict(config.run)) if away else config.run, Path(aside)
        )

        def run_arms(arms: Sequence[Arm], _acquired: ModelPair) -> list[ArmOutcome]:
            return planner.side_by_side([partial(_plan_arm, arm, planner) for arm in arms])

        def run_cell(pair: PairConfig, task: TaskConfig) -> CellOutcome:
            before = len(planner.steps)
            outcome = Cell(config, pair, task).run(planner, run_arms)
            outcome.refs = [step.known for step in planner.steps[before:] if step.known]
            return outcome

        outcomes = planner.side_by_side([partial(run_cell, *cell) for cell in config.cells()])
        with planner.undecided(any(step.status != "cached" for step in planner.steps)):
            report = start_report(config, outcomes, planner)
        failures = _failures(outcomes)
        if all(outcome.reason for outcome in outcomes):
            raise ParaknowError("No pair can be compared. " + " ".join(failures))
        arms = [arm for outcome in outcomes for arm in outcome.arms]
        if arms and all(arm.reason for arm in arms):
            raise ParaknowError("No method can be trained. " + " ".join(failures))
        places = {"cpu": config.slots.cpu, "cuda": len(config.slots.gpus)}
        places = {kind: count * runs_at_once for kind, count in places.items()}
        rates = rates or partial(given_rates, config.budget)
        counted = counted_items(config, outcomes)
        hours, used = scheduled_hours(planner.steps, History(store), places, rates)
    return ComparePlan(
        steps=planner.steps,
        store=store.root,
        free_bytes=store_free_bytes(store.root),
        drift_mode=config.run.drift,
        failures=failures,
        slots=(config.slots.cpu + len(config.slots.gpus)) * runs_at_once,
        hours=hours,
        more_trials=_more_trials(config, outcomes),
        outcomes=outcomes,
        report=report,
        blind_spots=blind_spots(config),
        visible=partial(visible_by_items, config, counted),
        runs=[unit.name for unit in open_units(config)] if away else None,
        stored_elsewhere=away and store.tier is not None,
        rates=used,
        machines=runs_at_once,
        price=config.budget.price,
    )
