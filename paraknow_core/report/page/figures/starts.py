"""Size and direction of each method's start point, one dot a module."""

import statistics
from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from paraknow_core.report.page import svg
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import ModuleFact
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.scales import Scale, finite, fit
from paraknow_core.report.page.styles import Look, plotly_text
from paraknow_core.report.page.text import number, short

TITLE = "Start points against the student’s weights"
WIDTH, LEFT, TOP, ROW = 1120.0, 200.0, 30.0, 24.0
MIDDLE, RIGHT = 630.0, 1090.0

Rows = dict[str, list[ModuleFact]]
Value = Callable[[ModuleFact], float | None]


def draw(pair: Pair, look: Look) -> Figure:
    """Draw two strips side by side: ‖B₀A₀‖/‖W‖ and the cosine of B₀A₀ with W."""
    rows: Rows = {}
    for fact in pair.modules:
        rows.setdefault(fact.method, []).append(fact)
    if not any(finite([f.norm_ratio]) for f in pair.modules):
        missing = "Start points were not compared with the weights: no diagnosis was handed over."
        return Figure("starts", TITLE, missing=missing, wide=True)
    return Figure(
        "starts",
        TITLE,
        "One dot a module, a stroke at the median. A start point of zero (plain LoRA) has no "
        "direction; a cosine around 0 is what a random matrix has too.",
        _svg(rows, look, pair.name),
        _spec(rows, look),
        _table(rows),
        wide=True,
    )


def _svg(rows: Rows, look: Look, name: str) -> Markup:
    bottom = TOP + ROW * len(rows)
    ratio = _scale(rows, _ratio, LEFT, MIDDLE - 30, least=0.0)
    cosine = _scale(rows, _cosine, MIDDLE, RIGHT, least=None)
    parts = [
        svg.x_axis(ratio, bottom, "‖B₀A₀‖ / ‖W‖", top=TOP),
        svg.x_axis(cosine, bottom, "cosine of B₀A₀ and W", top=TOP),
    ]
    for place, (method, facts) in enumerate(rows.items()):
        middle = TOP + ROW * (place + 0.5)
        style = look.style(method)
        parts.append(svg.text(LEFT - 14, middle + 3.5, short(method), anchor="end", css="name"))
        parts += [_strip(facts, _ratio, ratio, middle, style)]
        parts += [_strip(facts, _cosine, cosine, middle, style)]
    return svg.drawing(WIDTH, bottom + 40, parts, f"{TITLE}, {name}")


def _scale(rows: Rows, value: Value, start: float, end: float, least: float | None) -> Scale:
    values = finite(value(fact) for facts in rows.values() for fact in facts)
    far = max((abs(v) for v in values), default=1.0) or 1.0
    return fit([-far if least is None else least, far], start, end, room=0.03)


def _strip(facts: list[ModuleFact], value: Value, scale: Scale, y: float, style: str) -> Markup:
    parts = []
    for fact in facts:
        found = value(fact)
        if found is not None:
            tip = f"{short(fact.method, 60)}, {short(fact.module, 80)}: {number(found, 4)}"
            parts.append(svg.dot((scale(found), y), 3.2, f"faint {style}", title=tip))
    median = _median(facts, value)
    if median is not None:
        at = scale(median)
        parts.append(svg.line((at, y - 8), (at, y + 8), "median"))
    return svg.group(parts)


def _ratio(fact: ModuleFact) -> float | None:
    return fact.norm_ratio


def _cosine(fact: ModuleFact) -> float | None:
    return fact.cosine


def _median(facts: list[ModuleFact], value: Value) -> float | None:
    values = finite(value(fact) for fact in facts)
    return statistics.median(values) if values else None


def _spec(rows: Rows, look: Look) -> dict[str, Any]:
    traces = []
    for method, facts in rows.items():
        for value, axis in ((_ratio, "x"), (_cosine, "x2")):
            shown = [fact for fact in facts if value(fact) is not None]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "x": [value(fact) for fact in shown],
                    "y": [plotly_text(method, 26)] * len(shown),
                    "text": [plotly_text(fact.module, 80) for fact in shown],
                    "xaxis": axis,
                    "marker": {"color": f"alpha({look.colour(method)},0.6)", "size": 8},
                    "hovertemplate": "%{y}<br>%{text}<br><b>%{x:.4f}</b><extra></extra>",
                    "showlegend": False,
                }
            )
    layout = {
        "xaxis": {"title": {"text": "‖B₀A₀‖ / ‖W‖"}, "domain": [0, 0.48], "rangemode": "tozero"},
        "xaxis2": {"title": {"text": "cosine of B₀A₀ and W"}, "domain": [0.52, 1]},
        "yaxis": {"autorange": "reversed", "type": "category"},
    }
    return {"data": traces, "layout": layout}


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
