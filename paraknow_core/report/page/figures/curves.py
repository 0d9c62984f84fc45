"""Learning curves: the mean over seeds, in a band from the lowest to the highest seed."""

from functools import partial

from paraknow_core.evaluation.metrics import LOSS, METRICS
from paraknow_core.report.page import linechart
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.linechart import Axes, Series
from paraknow_core.report.page.outcome import Curve
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import finite, number

TITLES = {"train": "Learning curves", "validation": "Validation during training"}


def draw(pair: Pair, look: Look, split: str) -> Figure:
    """Draw the curves of a split, ``train`` or ``validation``."""
    title = TITLES[split]
    found = [c for c in pair.curves if c.split == split and finite(c.mean)]
    if not found:
        return Figure(split, title, missing=f"No {split} losses were handed over for this pair.")
    lines = [_series(curve, look) for curve in found]
    axes = Axes("optimizer step", f"{split} loss ({METRICS[LOSS].unit})")
    return Figure(
        split,
        title,
        "Mean over seeds; the band reaches from the lowest to the highest seed. "
        "Dotted lines are controls.",
        partial(linechart.plot, lines, axes),
        f"{title} of {pair.name}",
        _table(found),
        tuple((look.style(curve.method), curve.method) for curve in found),
    )


def _series(curve: Curve, look: Look) -> Series:
    return Series(
        name=curve.method,
        colour=look.colour(curve.method),
        x=curve.steps,
        y=curve.mean,
        low=curve.low if curve.seeds > 1 else (),
        high=curve.high if curve.seeds > 1 else (),
        dash=look.dash(curve.method),
        dots=len(curve.steps) <= 12,
    )


def _table(curves: list[Curve]) -> Table:
    head = ("method", "seeds", "first step", "mean", "last step", "mean", "lowest", "highest")
    return Table(head, tuple(_row(curve) for curve in curves))


def _row(curve: Curve) -> tuple[str, ...]:
    first = [str(curve.steps[0]), number(curve.mean[0])]
    last = [str(curve.steps[-1]), *(number(v[-1]) for v in (curve.mean, curve.low, curve.high))]
    return (curve.method, str(curve.seeds), *first, *last)
