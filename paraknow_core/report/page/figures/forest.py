"""The forest plot: paired differences with their 95 % intervals, one row each, on one scale."""

from collections.abc import Sequence
from typing import Any

from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import Line, Sheet, numbered
from paraknow_core.report.page.text import finite, number, short
from paraknow_core.statistics.contrast import Contrast

WIDTH, ROW, BELOW = 340.0, 24.0, 38.0


def plot(contrasts: Sequence[Contrast], *, higher_is_better: bool = False) -> Sheet:
    """All rows, to be cut for a table's cells, and the ticks below them."""
    sheet = Sheet(ROW * len(contrasts) + BELOW, width=WIDTH)
    axes = sheet.axes(left=8, right=8, top=0, bottom=BELOW)
    panel(sheet, axes, contrasts)
    axes.set_yticks([])
    left, right = ("worse", "better") if higher_is_better else ("better", "worse")
    for x, side, words in ((0, "left", f"← {left}"), (1, "right", f"{right} →")):
        at = {"xycoords": "axes fraction", "xytext": (0, -32), "textcoords": "offset points"}
        axes.annotate(words, (x, 0), ha=side, color=colour("soft"), **at)
    return sheet


def panel(sheet: Sheet, axes: Any, contrasts: Sequence[Contrast]) -> None:
    """Draw intervals with their means beside the line of no difference, downwards."""
    axes.grid(visible=False)
    numbers = [v for c in contrasts for v in finite([c.mean, c.low, c.high])]
    axes.update_datalim([(value, 0) for value in [0.0, *numbers]], updatey=False)
    axes.autoscale_view(scaley=False)
    axes.set_ylim(max(1, len(contrasts)) - 0.5, -0.5)
    numbered(axes.xaxis)
    rows = list(range(len(contrasts)))
    zero = [Line([(0, row - 0.5), (0, row + 0.5)], colour("soft"), 1, ":") for row in rows]
    sheet.lines(axes, zero, rows=rows)
    _intervals(sheet, axes, contrasts)
    _means(sheet, axes, contrasts)


def _intervals(sheet: Sheet, axes: Any, contrasts: Sequence[Contrast]) -> None:
    lines, wide, rows, told = [], [], [], []
    for row, contrast in enumerate(contrasts):
        if (ends := _ends(contrast)) is None:
            continue
        low, high = ends
        up, down, paint = row - 0.17, row + 0.17, colour(_paint(contrast))
        points = [(low, up), (low, down), (low, row), (high, row), (high, down), (high, up)]
        lines.append(Line(points, paint, 1.6))
        wide.append(Line([(low, row), (high, row)], paint))
        rows.append(row)
        told.append(_told(contrast))
    sheet.lines(axes, lines, rows=rows)
    sheet.lines(axes, wide, texts=told, rows=rows, css="catch-line")


def _means(sheet: Sheet, axes: Any, contrasts: Sequence[Contrast]) -> None:
    means = [(row, c, v) for row, c in enumerate(contrasts) for v in finite([c.mean])]
    if not means:
        return
    paints = [_paint(contrast) for _, contrast, _ in means]
    dots = axes.scatter(
        [mean for _, _, mean in means],
        [row for row, _, _ in means],
        s=48,
        facecolors=[colour("paper" if paint == "unclear" else paint) for paint in paints],
        edgecolors=[colour(paint) for paint in paints],
        linewidths=1.4,
        zorder=4,
    )
    sheet.tell(dots, [_told(c) for _, c, _ in means], rows=[row for row, _, _ in means])


def _ends(contrast: Contrast) -> tuple[float, float] | None:
    ends = finite([contrast.low, contrast.high])
    return (ends[0], ends[1]) if len(ends) == 2 else None


def _paint(contrast: Contrast) -> str:
    return contrast.result if contrast.result in ("better", "worse") else "unclear"


def _told(contrast: Contrast) -> str:
    mean, ends = number(contrast.mean, 4, sign=True), _ends(contrast)
    span = "" if ends is None else ", ".join(number(end, 4, sign=True) for end in ends)
    return f"{short(contrast.label, 80)}\n{mean}" + (f" [{span}]" if span else "")
