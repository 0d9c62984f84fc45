"""Lines with bands; hovering tells every line's value at the place of the pointer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import Line, Sheet, numbered
from paraknow_core.report.page.styles import DASHES
from paraknow_core.report.page.text import compact, finite, number, short

MOST_PLACES, MOST_LINES = 60, 24
"""How many places of a drawing tell values, and of how many lines."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line; x and y have the same length, an x whose y is None is left out.

    Attributes:
        name: as hovering tells it.
        colour: a name of the palette.
        x: ascending.
        y: of each x.
        low: with ``high`` a band, or empty.
        high: of each x.
        dash: one of ``styles.DASHES``.
        dots: whether each point has a mark.
        ring: an x whose point is larger.
        tip: what the line itself tells; empty: each place tells all lines' values.
    """

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dash: str = ""
    dots: bool = False
    ring: float | None = None
    tip: str = ""

    @property
    def points(self) -> list[Point]:
        """The points that exist."""
        return [
            (x, y) for x, y in zip(self.x, self.y, strict=True) if finite([y]) and y is not None
        ]


@dataclass(frozen=True)
class Axes:
    """Labels and kinds of the two axes; ``x_ticks`` stand in place of round numbers."""

    x: str
    y: str
    log_x: bool = False
    log_y: bool = False
    x_ticks: tuple[float, ...] = ()


def plot(lines: Sequence[Series], axes: Axes) -> Sheet:
    """The drawing; at least one line has a point."""
    sheet = Sheet(250.0)
    drawn = sheet.axes(left=46, right=10, top=24, bottom=38)
    drawn.set_xlabel(axes.x)
    drawn.set_title(short(axes.y, 60), x=-46 / 344)
    drawn.set(xscale="log" if axes.log_x else "linear", yscale="log" if axes.log_y else "linear")
    bands = {one.colour: band for one in lines if (band := _band(one))}
    drawn.update_datalim([p for one in lines for p in one.points])
    drawn.update_datalim([p for band in bands.values() for p in band])
    drawn.autoscale_view()
    paints = [colour(name, 0.1) for name in bands]
    sheet.shapes(drawn, list(bands.values()), facecolors=paints, linewidths=0)
    sheet.lines(drawn, [_line(one) for one in lines])
    numbered(drawn.yaxis, log=axes.log_y)
    numbered(drawn.xaxis, log=axes.log_x)
    if axes.x_ticks:
        drawn.set_xticks(axes.x_ticks, [compact(tick) for tick in axes.x_ticks])
    if any(one.tip for one in lines):
        wide = [replace(_line(one), width=9) for one in lines]
        sheet.lines(drawn, wide, texts=[one.tip for one in lines], css="catch-line")
    else:
        _places(sheet, drawn, lines, axes)
    _dots(sheet, drawn, [one for one in lines if one.dots])
    return sheet


def _band(one: Series) -> list[Point]:
    """The outline: along the low ends, and back along the high ones."""
    ends = zip(one.x, one.low, one.high, strict=False)
    whole = [(x, low, high) for x, low, high in ends if low is not None and high is not None]
    return [(x, low) for x, low, _ in whole] + [(x, high) for x, _, high in reversed(whole)]


def _line(one: Series) -> Line:
    width = 1.0 if one.tip else 1.5
    return Line(one.points, colour(one.colour), width, DASHES[one.dash])


def _dots(sheet: Sheet, drawn: Any, lines: Sequence[Series]) -> None:
    """A mark at each point, larger at the ring."""
    dots = [(one, x, y) for one in lines for x, y in one.points]
    if not dots:
        return
    found = drawn.scatter(
        [x for _, x, _ in dots],
        [y for _, _, y in dots],
        s=[60.0 if x == one.ring else 15.0 for one, x, _ in dots],
        c=[colour(one.colour) for one, _, _ in dots],
        linewidths=0,
        zorder=5,
    )
    sheet.tell(found, [f"{short(one.name, 60)}\n{number(y)} at {x:g}" for one, x, y in dots])


def _places(sheet: Sheet, drawn: Any, lines: Sequence[Series], axes: Axes) -> None:
    """Unseen columns, one a place, that tell the values of all lines there."""
    found = sorted({x for one in lines for x, _ in one.points})
    places = found[:: -(-len(found) // MOST_PLACES)]
    held = [(one.name, dict(one.points)) for one in lines]
    to, back = drawn.transData.transform, drawn.transData.inverted().transform
    level = drawn.get_ylim()[0]
    at = [float(to((x, level))[0]) for x in places]
    middles = [(a + b) / 2 for a, b in pairwise(at)]
    edges = [float(back((edge, 0))[0]) for edge in (at[0] - 8, *middles, at[-1] + 8)]
    shapes = [[(left, 0), (right, 0), (right, 1), (left, 1)] for left, right in pairwise(edges)]
    across = drawn.get_xaxis_transform()
    columns = sheet.shapes(drawn, shapes, facecolors=[colour("ink")], transform=across, zorder=4)
    sheet.tell(columns, [_told(x, held, axes.x) for x in places], css="catch")


def _told(x: float, lines: list[tuple[str, dict[float, float]]], label: str) -> str:
    here = sorted((values[x], name) for name, values in lines if x in values)
    told = [f"{number(value)}  {short(name, 40)}" for value, name in here[:MOST_LINES]]
    if len(here) > MOST_LINES:
        told.append(f"… and {len(here) - MOST_LINES} more")
    return "\n".join([f"{label} {compact(x)}", *told])
