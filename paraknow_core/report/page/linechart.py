"""Lines with bands, drawn twice: as SVG with labels at their ends, and as Plotly's data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from paraknow_core.report.page import svg
from paraknow_core.report.page.scales import Scale, finite, fit, spread_out
from paraknow_core.report.page.styles import plotly_text
from paraknow_core.report.page.text import compact, number, short

WIDTH, HEIGHT = 560.0, 330.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 408.0, 26.0, 288.0

Place = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """One line; x and y have the same length, an x whose y is None is left out.

    ``low`` and ``high`` make a band, or are empty. ``ring`` is an x whose point is emphasised.
    """

    name: str
    style: str
    colour: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    dash: str = "solid"
    dots: bool = False
    ring: float | None = None
    label: bool = True

    @property
    def points(self) -> list[Place]:
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


def draw(lines: Sequence[Series], axes: Axes, label: str) -> Markup:
    """The drawing; at least one line has a point."""
    points = [point for one in lines for point in one.points]
    bands = [v for one in lines for v in finite([*one.low, *one.high])]
    shown = _unlogged([*[y for _, y in points], *bands], log=axes.log_y)
    x = fit([p[0] for p in points], LEFT, RIGHT, log=axes.log_x, room=0.02)
    y = fit(shown, BOTTOM, TOP, log=axes.log_y)
    parts = [
        svg.y_axis(y, LEFT, axes.y, right=RIGHT),
        svg.x_axis(x, BOTTOM, axes.x, top=TOP, ticks=axes.x_ticks or x.ticks(6)),
        *[_band(one, x, y) for one in lines if one.low],
        *[_line(one, x, y) for one in lines],
        _labels([one for one in lines if one.points and one.label], y),
    ]
    return svg.drawing(WIDTH, HEIGHT, parts, label)


def _unlogged(values: list[float], *, log: bool) -> list[float]:
    return [v for v in values if v > 0] if log else values


def _band(one: Series, x: Scale, y: Scale) -> Markup:
    ends = [
        (x(at), y(low), y(high))
        for at, low, high in zip(one.x, one.low, one.high, strict=True)
        if low is not None and high is not None
    ]
    outline = [(at, low) for at, low, _ in ends] + [(at, high) for at, _, high in reversed(ends)]
    return svg.area(outline, f"band {one.style}")


def _line(one: Series, x: Scale, y: Scale) -> Markup:
    places = [(x(a), y(b)) for a, b in one.points]
    parts = [svg.path(places, f"line {one.style}")]
    for (at, value), place in zip(one.points, places, strict=True):
        if one.dots:
            ringed = " ring" if at == one.ring else ""
            tip = f"{short(one.name, 60)}: {number(value)} at {at:g}"
            parts.append(
                svg.dot(place, 5 if ringed else 2.6, f"dot {one.style}{ringed}", title=tip)
            )
    return svg.group(parts)


def _labels(lines: Sequence[Series], y: Scale) -> Markup:
    """Names at the ends of the lines, moved apart and joined to their line."""
    ends = [y(one.points[-1][1]) for one in lines]
    placed = spread_out(ends, 14, TOP + 4, BOTTOM)
    parts = []
    for one, end, place in zip(lines, ends, placed, strict=True):
        bend = [(RIGHT + 2, end), (RIGHT + 12, place), (RIGHT + 18, place)]
        parts.append(svg.path(bend, f"lead {one.style}"))
        parts.append(svg.text(RIGHT + 22, place + 3.5, short(one.name, 20), css="name"))
    return svg.group(parts)


def spec(lines: Sequence[Series], axes: Axes) -> dict[str, Any]:
    """The same for Plotly; ``var(--m0)`` and ``alpha(--m0,0.15)`` are resolved by the page."""
    traces: list[dict[str, Any]] = []
    for one in lines:
        traces += [*_plotly_band(one), _plotly_line(one)]
    layout = {
        "xaxis": _plotly_axis(axes.x, log=axes.log_x, ticks=axes.x_ticks),
        "yaxis": _plotly_axis(axes.y, log=axes.log_y),
        "showlegend": True,
    }
    return {"data": traces, "layout": layout}


def _plotly_axis(label: str, *, log: bool, ticks: Sequence[float] = ()) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "title": {"text": plotly_text(label)},
        "type": "log" if log else "linear",
    }
    if ticks:
        axis |= {"tickvals": list(ticks), "ticktext": [compact(tick) for tick in ticks]}
    return axis


def _plotly_line(one: Series) -> dict[str, Any]:
    points = one.points
    name = plotly_text(one.name, 26)
    return {
        "type": "scatter",
        "mode": "lines+markers" if one.dots else "lines",
        "name": name,
        "legendgroup": name,
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": f"var({one.colour})", "width": 2, "dash": one.dash},
        "marker": _markers(one) if one.dots else {},
        "showlegend": one.label,
        "hovertemplate": "%{fullData.name}<br><b>%{y:.4~g}</b> at %{x}<extra></extra>",
    }


def _markers(one: Series) -> dict[str, Any]:
    sizes = [11 if x == one.ring else 6 for x, _ in one.points]
    return {"size": sizes, "opacity": 1, "line": {"width": 0}}


def _plotly_band(one: Series) -> list[dict[str, Any]]:
    ends = [
        (at, low, high)
        for at, low, high in zip(one.x, one.low, one.high, strict=False)
        if low is not None and high is not None
    ]
    if not ends:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "fill": "toself",
            "legendgroup": plotly_text(one.name, 26),
            "x": [at for at, _, _ in ends] + [at for at, _, _ in reversed(ends)],
            "y": [low for _, low, _ in ends] + [high for _, _, high in reversed(ends)],
            "line": {"width": 0},
            "fillcolor": f"alpha({one.colour},0.14)",
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
