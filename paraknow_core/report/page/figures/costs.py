"""Computing time by step, as bars."""

from functools import partial

from paraknow_core.report.page.data import Cost, Pair
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import Sheet
from paraknow_core.report.page.text import finite, room, seconds, short

TITLE = "Cost by step"
ROW, RIGHT = 22.0, 62.0


def draw(pair: Pair) -> Figure:
    """Draw one bar a step, all its runs together."""
    if not pair.costs:
        return Figure("costs", TITLE, missing="No computing times were handed over.")
    rows = [
        (
            c.step,
            seconds(c.seconds),
            str(c.runs),
            str(c.reused),
            seconds(c.seconds / max(1, c.runs)),
        )
        for c in pair.costs
    ]
    return Figure(
        "costs",
        TITLE,
        "Computing time of all results of a step, each counted once, also when it was reused.",
        partial(plot, pair.costs),
        f"{TITLE}, {pair.name}",
        Table(("step", "time", "results", "reused", "time each"), tuple(rows)),
    )


def plot(costs: tuple[Cost, ...]) -> Sheet:
    """One bar a step, its time at its end."""
    names = [short(cost.step, 18) for cost in costs]
    sheet = Sheet(ROW * len(costs) + 8)
    axes = sheet.axes(left=10 + room(names), right=RIGHT, top=4, bottom=4)
    axes.grid(visible=False)
    lengths = [max([0.0, *finite([cost.seconds])]) for cost in costs]
    bars = axes.barh(range(len(costs)), lengths, height=0.62, color=colour("heat"))
    axes.set(xlim=(0, max(lengths) or 1.0), ylim=(len(costs) - 0.5, -0.5), xticks=[])
    axes.set_yticks(range(len(costs)), names, color=colour("ink"))
    axes.bar_label(bars, [seconds(cost.seconds) for cost in costs], padding=6, color=colour("soft"))
    for bar, cost in zip(bars, costs, strict=True):
        told = f"{short(cost.step, 60)}\n{seconds(cost.seconds)}, {cost.runs} results"
        sheet.tell(bar, [f"{told}, {cost.reused} of them reused" if cost.reused else told])
    return sheet
