"""Size and direction of each method's start point, one dot a module."""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import ModuleFact
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import WIDTH, Line, Sheet, numbered
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import finite, number, room, short

TITLE = "Start points against the student’s weights"
ROW, TOP, BOTTOM = 20.0, 24.0, 24.0

Rows = dict[str, list[ModuleFact]]
Value = Callable[[ModuleFact], float | None]


def draw(pair: Pair, look: Look) -> Figure:
    """Draw two strips side by side: ‖B₀A₀‖/‖W‖ and the cosine of B₀A₀ with W."""
    rows: Rows = {}
    for fact in pair.modules:
        rows.setdefault(fact.method, []).append(fact)
    if not any(finite([f.norm_ratio]) for f in pair.modules):
        missing = "Start points were not compared with the weights: no diagnosis was handed over."
        return Figure("starts", TITLE, missing=missing)
    return Figure(
        "starts",
        TITLE,
        "One dot a module, a stroke at the median. A start point of zero (plain LoRA) has no "
        "direction; a cosine around 0 is what a random matrix has too.",
        partial(plot, rows, look),
        f"{TITLE}, {pair.name}",
        _table(rows),
    )


def plot(rows: Rows, look: Look) -> Sheet:
    """Both strips; methods go down the drawing."""
    names = [short(method, 20) for method in rows]
    sheet = Sheet(ROW * len(rows) + TOP + BOTTOM)
    left, gap = 10 + room(names), 18.0
    wide = (WIDTH - left - gap - 8) / 2
    strips = (("‖B₀A₀‖ / ‖W‖", _ratio), ("cosine of B₀A₀ and W", _cosine))
    for place, (title, value) in enumerate(strips):
        start = left + place * (wide + gap)
        axes = sheet.axes(left=start, right=WIDTH - start - wide, top=TOP, bottom=BOTTOM)
        axes.set_title(title)
        axes.set_yticks(range(len(rows)), [""] * len(rows) if place else names, color=colour("ink"))
        axes.grid(visible=False, axis="y")
        axes.set(ylim=(len(rows) - 0.5, -0.5), xlim=_span(rows, value, both=bool(place)))
        numbered(axes.xaxis, most=3)
        _dots(sheet, axes, rows, value, look)
        _medians(sheet, axes, rows, value)
    return sheet


def _span(rows: Rows, value: Value, *, both: bool) -> tuple[float, float]:
    values = finite(value(fact) for facts in rows.values() for fact in facts)
    far = 1.04 * (max((abs(v) for v in values), default=1.0) or 1.0)
    return (-far if both else -0.04 * far, far)


def _dots(sheet: Sheet, axes: Any, rows: Rows, value: Value, look: Look) -> None:
    dots = [
        (row, fact, found)
        for row, facts in enumerate(rows.values())
        for fact in facts
        for found in finite([value(fact)])
    ]
    if not dots:
        return
    drawn = axes.scatter(
        [found for _, _, found in dots],
        [row for row, _, _ in dots],
        s=24,
        c=[colour(look.colour(fact.method), 0.55) for _, fact, _ in dots],
        linewidths=0,
        zorder=4,
    )
    sheet.tell(
        drawn,
        [f"{short(f.method, 60)}\n{short(f.module, 80)}: {number(v, 4)}" for _, f, v in dots],
    )


def _medians(sheet: Sheet, axes: Any, rows: Rows, value: Value) -> None:
    held = [(row, method, finite(map(value, rows[method]))) for row, method in enumerate(rows)]
    middles = [(row, method, statistics.median(found)) for row, method, found in held if found]
    ink = colour("ink")
    strokes = [Line([(v, row - 0.35), (v, row + 0.35)], ink, 1.8) for row, _, v in middles]
    told = [f"{short(method, 60)}, median\n{number(v, 4)}" for _, method, v in middles]
    sheet.lines(axes, strokes, texts=told)


def _ratio(fact: ModuleFact) -> float | None:
    return fact.norm_ratio


def _cosine(fact: ModuleFact) -> float | None:
    return fact.cosine


def _table(rows: Rows) -> Table:
    head = ("method", "modules", "ratio: least", "median", "greatest")
    found = []
    for method, facts in rows.items():
        ratios, cosines = finite(map(_ratio, facts)), finite(map(_cosine, facts))
        found.append((method, str(len(facts)), *_summary(ratios), *_summary(cosines)))
    return Table((*head, "cosine: least", "median", "greatest"), tuple(found))


def _summary(values: list[float]) -> tuple[str, str, str]:
    if not values:
        return number(None), number(None), number(None)
    return tuple(number(f(values), 4) for f in (min, statistics.median, max))  # type: ignore[return-value]
