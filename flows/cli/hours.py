"""How a plan's time and cost are told."""

from flows.planning.hours import TimedPlan
from flows.terminal import Terminal

_HOURS_FROM = 7200
"""Seconds from which a time is told in hours."""


def time_text(seconds: float, *, about: bool) -> str:
    """Write how long something takes; ``about`` if that is an estimate by rates."""
    told = f"{seconds / 3600:,.1f} h" if seconds >= _HOURS_FROM else f"{seconds:.0f} s"
    return f"about {told}" if about else told


def hours_told(plan: TimedPlan, where: str = "") -> str:
    """Say how long a plan would take, and how many of its steps that leaves out.

    Args:
        plan: with its hours.
        where: it computes, in words.
    """
    never = f"{plan.untimed} steps the like of which never ran here"
    if plan.untimed and plan.untimed == len(plan.to_run):
        return f"for how long is not known: {never}"
    hours = f"about {plan.hours:.2f} h{' ' if where else ''}{where}"
    return f"{hours}, and {never}" if plan.untimed else hours


def tell_rates(console: Terminal, plan: TimedPlan) -> None:
    """Say where hours come from that no earlier run tells, and what they cost."""
    if plan.estimated and plan.rates is not None:
        console.print(
            f"Times of {plan.estimated} steps are estimates {plan.rates.told}. {plan.rates.worth}",
            soft_wrap=True,
        )
    if plan.price:
        machines = f" on {plan.machines} machines" * (plan.machines > 1)
        console.print(
            f"Cost: about {plan.cost:,.2f}, at {plan.price:g} an hour of a machine{machines}",
            soft_wrap=True,
        )
