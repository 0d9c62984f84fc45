"""Computing time by step, as bars."""

from paraknow_core.report.page import svg
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.text import seconds, short

TITLE = "Cost by step"
WIDTH, LEFT, RIGHT, ROW = 560.0, 120.0, 470.0, 22.0


def draw(pair: Pair) -> Figure:
    """Draw one bar a step, all its runs together."""
    if not pair.costs:
        return Figure("costs", TITLE, missing="No computing times were handed over.")
    most = max((c.seconds for c in pair.costs), default=0.0) or 1.0
    parts = []
    for place, cost in enumerate(pair.costs):
        y = ROW * place
        length = (RIGHT - LEFT) * max(0.0, cost.seconds) / most
        parts.append(svg.text(LEFT - 10, y + 14, short(cost.step, 18), anchor="end", css="name"))
        parts.append(svg.box(LEFT, y + 3, max(1.0, length), ROW - 8, "bar"))
        parts.append(svg.text(LEFT + length + 8, y + 14, seconds(cost.seconds), css="tick"))
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
        svg.drawing(WIDTH, ROW * len(pair.costs) + 4, parts, f"{TITLE}, {pair.name}"),
        table=Table(("step", "time", "results", "reused", "time each"), tuple(rows)),
    )
