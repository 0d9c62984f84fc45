"""What a transfer would do: the steps that would hit or run, and what they need. Runs nothing."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from artifacts.canonical import Json
from artifacts.disk.sizes import unequal
from artifacts.errors import StoreFullError
from artifacts.room import store_free_bytes
from flows.config.limits import BudgetConfig
from flows.config.transfer import TransferConfig
from flows.graph.transfer_steps import wire
from flows.planning.durations import History
from flows.planning.hours import TimedPlan, refuse_beyond
from flows.planning.planner import Planner
from flows.planning.rates import given_rates
from flows.planning.schedule import scheduled_hours
from paraknow_core.inspection.laws import SlotRates
from tasks.engine.ref import Ref
from tasks.engine.stage import Stage


@dataclass(frozen=True, kw_only=True)
class Plan(TimedPlan):
    """What a transfer would do.

    Attributes:
        budget: what it may take.
        timed: whether its time was asked for.
    """

    budget: BudgetConfig = field(default_factory=BudgetConfig)
    timed: bool = False

    def refs(self) -> list[Ref]:
        """Return the outputs that are in the store."""
        return [step.known for step in self.steps if step.status == "cached" and step.known]

    def to_json(self, misses: Mapping[str, Json] | None = None) -> str:
        """Return the plan as JSON text; ``misses`` is label → why that step would run."""
        steps = [
            {
                "name": s.label,
                "step": s.step,
                "status": s.status,
                "remote": s.remote,
                "key": s.key,
                "drift": s.drift.text() if s.drift else None,
                **asdict(s.estimate),
                "seconds": s.seconds,
                **({"why": misses.get(s.label)} if misses is not None else {}),
            }
            for s in self.steps
        ]
        whole = {
            "steps": steps,
            "hours": self.hours if self.timed else None,
            "untimed": self.untimed if self.timed else None,
            "estimated": self.estimated,
            "rates": self.rates and self.rates.told,
            "cost": self.cost if self.timed and self.price else None,
            "memory_bytes": self.memory_bytes,
            "judging": asdict(self.judging) if self.judging else None,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "store": str(self.store),
        }
        return json.dumps(whole, indent=1)

    def check(self) -> None:
        """Refuse what can be known to fail before anything runs.

        Raises:
            ModelFolderError, DriftError, BudgetError, StoreFullError: as the checks.
        """
        self.check_complete()
        self.check_drift()
        refuse_beyond(
            self.beyond(self.budget), "Take fewer arms, rows or epochs, or raise the budget."
        )
        self.check_disk()

    def check_disk(self) -> None:
        """Refuse a plan that the disk cannot hold.

        Raises:
            StoreFullError: names both figures.
        """
        if self.disk_bytes > self.free_bytes:
            need, free = unequal(self.disk_bytes, self.free_bytes)
            raise StoreFullError(
                f"The plan needs about {need} in {self.store}, which has {free} free. Make "
                "room, or set another store (run.store or PARAKNOW_STORE)."
            )


def make_plan(
    config: TransferConfig, until: Stage, rates: Callable[[], SlotRates | None] | None = None
) -> Plan:
    """Plan a transfer; raises whatever of its checks would fail before anything expensive runs.

    Args:
        config: of the transfer.
        until: the last stage.
        rates: finds those for the time of steps whose like never ran here. Without it there are
            hours only where the budget limits them, and the rates are what the settings give.
    """
    store, budget = config.run.open_store(), config.budget
    with tempfile.TemporaryDirectory(prefix="paraknow-plan-") as aside:
        planner = Planner(config.run, until, Path(aside))
        wire(config, planner)
    timed = rates is not None or bool(budget.hours or budget.cost)
    hours, used = 0.0, None
    if timed:
        for step in planner.steps:
            step.slot = "cpu"  # one after another, whatever they compute on
        find = rates or partial(given_rates, budget)
        hours, used = scheduled_hours(planner.steps, History(store), {"cpu": 1}, find)
    return Plan(
        steps=planner.steps,
        store=store.root,
        free_bytes=store_free_bytes(store.root),
        drift_mode=config.run.drift,
        hours=hours,
        rates=used,
        price=budget.price,
        budget=budget,
        timed=timed,
    )
