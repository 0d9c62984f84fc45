"""How long a plan's steps would take and what that costs, and whether that is within a budget."""

from dataclasses import dataclass

from artifacts.disk.sizes import unequal
from flows.config.limits import BudgetConfig
from flows.planning.planner import StepsPlan
from paraknow_core.errors import BudgetError
from paraknow_core.inspection.laws import SlotRates


@dataclass(frozen=True, kw_only=True)
class TimedPlan(StepsPlan):
    """A plan of which it is known how long it would take.

    Attributes:
        hours: how long it would probably take, by the schedule of the steps whose time is known.
        rates: by which the time of steps was taken whose like never ran here; None if by none.
        machines: how many compute at the same time.
        price: of an hour of one machine; 0 if that is not known.
    """

    hours: float = 0.0
    rates: SlotRates | None = None
    machines: int = 1
    price: float = 0.0

    @property
    def cost(self) -> float:
        """What the hours would cost, on all machines."""
        return self.hours * self.machines * self.price

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory that the largest of the steps to run is estimated to need."""
        return max((step.estimate.memory_bytes or 0 for step in self.to_run), default=0)

    @property
    def estimated(self) -> int:
        """Steps to run whose time is an estimate by rates."""
        return sum(step.by_rates for step in self.to_run)

    @property
    def untimed(self) -> int:
        """Steps to run whose like has never been run here."""
        return sum(step.seconds is None for step in self.to_run)

    def beyond(self, budget: BudgetConfig) -> list[str]:
        """Say what of a budget the plan would go beyond, and by how much."""
        return [
            f"{what}: about {need:.4g}, allowed {limit:g}"
            for what, need, limit in (
                ("hours", self.hours, budget.hours),
                ("disk_gb", self.disk_bytes / 1e9, budget.disk_gb),
                ("steps", len(self.to_run), budget.steps),
                ("cost", self.cost, budget.cost),
            )
            if limit and need > limit
        ]

    @property
    def disk_here(self) -> int:
        """Bytes of them that would come to lie in this machine's store."""
        return self.disk_bytes

    def lack_of_room(self) -> str:
        """Say what the disk has and what it would take; empty if it is enough."""
        if self.disk_here <= self.free_bytes:
            return ""
        need, free = unequal(self.disk_here, self.free_bytes)
        return f"disk: about {need}, free in {self.store} {free}"


def refuse_beyond(beyond: list[str], advice: str) -> None:
    """Refuse a plan that goes beyond its budget.

    Raises:
        BudgetError: names each limit and what the plan would take.
    """
    if beyond:
        raise BudgetError(
            f"The plan is beyond its budget ({'; '.join(beyond)}). Nothing was run. {advice}"
        )
