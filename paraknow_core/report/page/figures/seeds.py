"""Each seed of a method as a dot on one small scale, for the table of results."""

from collections.abc import Sequence
from typing import Any

from paraknow_core.report.page.outcome import Score
from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import Line, Sheet
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import finite, number, short

WIDTH, ROW = 260.0, 20.0


def plot(scores: Sequence[Score], look: Look) -> Sheet:
    """All methods' strips, to be cut for a table's cells: the seeds, and a stroke at their mean."""
    sheet = Sheet(ROW * len(scores), width=WIDTH)
    axes = sheet.axes(left=6, right=6, top=0, bottom=0)
    axes.set_axis_off()
    values = [v for score in scores for v in finite([score.mean, *score.values])] or [0.0, 1.0]
    spread = 0.05 * ((max(values) - min(values)) or 1.0)
    axes.set(xlim=(min(values) - spread, max(values) + spread), ylim=(len(scores) - 0.5, -0.5))
    rows = list(range(len(scores)))
    ends = axes.get_xlim()
    rules = [Line([(ends[0], row), (ends[1], row)], colour("rule"), 1) for row in rows]
    sheet.lines(axes, rules, rows=rows)
    _dots(sheet, axes, scores, look)
    _means(sheet, axes, scores)
    return sheet


def _dots(sheet: Sheet, axes: Any, scores: Sequence[Score], look: Look) -> None:
    dots = [(row, score, v) for row, score in enumerate(scores) for v in finite(score.values)]
    if not dots:
        return
    found = axes.scatter(
        [value for _, _, value in dots],
        [row for row, _, _ in dots],
        s=38,
        c=[colour(look.colour(score.method), 0.6) for _, score, _ in dots],
        linewidths=0,
        zorder=4,
    )
    told = [f"{short(score.method, 60)}\n{number(value, 4)}" for _, score, value in dots]
    sheet.tell(found, told, rows=[row for row, _, _ in dots])


def _means(sheet: Sheet, axes: Any, scores: Sequence[Score]) -> None:
    means = [(row, score, v) for row, score in enumerate(scores) for v in finite([score.mean])]
    ink = colour("ink")
    strokes = [Line([(v, row - 0.4), (v, row + 0.4)], ink, 1.8) for row, _, v in means]
    told = [f"{short(score.method, 60)}, mean\n{number(v, 4)}" for _, score, v in means]
    sheet.lines(axes, strokes, texts=told, rows=[row for row, _, _ in means])
