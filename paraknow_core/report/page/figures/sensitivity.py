"""The teacher's sensitivity by layer and role, with the layers that the student takes from."""

import math
from functools import partial

from paraknow_core.report.page import heatmap
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import Sensitivity
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.heatmap import Grid
from paraknow_core.report.page.text import finite, number

TITLE = "Teacher’s sensitivity"


def draw(pair: Pair) -> Figure:
    """Draw a heat map, roles × layers, strength by the logarithm of the sum."""
    found = pair.sensitivity
    if found is None or not found.layers:
        return Figure(
            "sensitivity", TITLE, missing="No sensitivity of the teacher was handed over."
        )
    return Figure(
        "sensitivity",
        TITLE,
        "Stronger is greater, on a logarithmic scale over the whole picture.",
        partial(heatmap.plot, grid_of(found)),
        f"{TITLE}, {pair.teacher}",
        _table(found),
    )


def grid_of(found: Sensitivity) -> Grid:
    """What the heat map shows: roles × layers, and all of a layer in the last row."""
    rows = {**dict(zip(found.roles, found.sums, strict=True)), "all": found.layers}
    return Grid(
        rows=list(rows),
        columns=[str(layer) for layer in range(len(found.layers))],
        strength=_strength(list(rows.values())),
        texts=[[_words(value) for value in sums] for sums in rows.values()],
        x_label="teacher layer (▼ taken by the student)",
        y_label=f"Σ |θ · ∂L/∂θ|{_span(list(rows.values()))}",
        marked=found.chosen,
    )


def _span(rows: list[tuple[float | None, ...]]) -> str:
    """What the palest and the strongest cell stand for; a picture without hovering needs it."""
    known = [v for row in rows for v in finite(row) if v > 0]
    return f", pale {_words(min(known))} to strong {_words(max(known))}" if known else ""


def _words(value: float | None) -> str:
    return number(value, 2 if value is not None and abs(value) < 100 else 0)


def _strength(rows: list[tuple[float | None, ...]]) -> list[list[float | None]]:
    """Logarithms moved to 0.05..1; what is not above 0 has no place on the scale."""
    logs = [[math.log10(v) if v is not None and v > 0 else None for v in row] for row in rows]
    known = [v for row in logs for v in row if v is not None]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    width = (high - low) or 1.0
    return [[None if v is None else 0.05 + 0.95 * (v - low) / width for v in row] for row in logs]


def _table(found: Sensitivity) -> Table:
    head = ("layer", *found.roles, "whole layer", "student layer")
    takers = {teacher: student for student, teacher in enumerate(found.chosen)}
    rows = [
        (
            str(layer),
            *(number(sums[layer]) for sums in found.sums),
            number(total),
            str(takers.get(layer, "")),
        )
        for layer, total in enumerate(found.layers)
    ]
    outside = [(role, number(value)) for role, value in (found.outside or {}).items()]
    padded = [(name, *[""] * len(found.roles), value, "") for name, value in outside]
    return Table(head, (*rows, *padded))
