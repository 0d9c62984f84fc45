"""A grid of values, stronger where they are greater, as SVG and as Plotly's data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from paraknow_core.report.page import svg
from paraknow_core.report.page.styles import plotly_text
from paraknow_core.report.page.text import MISSING, short

WIDTH = 560.0
LEFT, TOP = 64.0, 34.0


_MARK = {"text": "▼", "showarrow": False, "font": {"color": "var(--ring)", "size": 11}}


@dataclass(frozen=True)
class Grid:
    """What a heat map shows.

    Attributes:
        rows: names of the rows, from the top.
        columns: names of the columns.
        strength: 0..1, or None where there is nothing; one list a row.
        texts: the values in words.
        x_label: under the columns.
        y_label: above the rows.
        marked: columns with a mark above them.
        ringed: (row, column) of cells that are outlined.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    strength: Sequence[Sequence[float | None]]
    texts: Sequence[Sequence[str]]
    x_label: str
    y_label: str
    marked: Sequence[int] = ()
    ringed: Sequence[tuple[int, int]] = ()


def draw(grid: Grid, label: str) -> Markup:
    """The drawing; values are written into the cells where there is room."""
    width = (WIDTH - LEFT - 4) / len(grid.columns)
    height = max(15.0, min(30.0, 240 / len(grid.rows)))
    bottom = TOP + height * len(grid.rows)
    parts = [svg.text(0, 12, grid.y_label, css="axis")]
    for row, name in enumerate(grid.rows):
        middle = TOP + height * (row + 0.5) + 3.5
        parts.append(svg.text(LEFT - 8, middle, short(name, 9), anchor="end", css="tick"))
        for column in range(len(grid.columns)):
            parts.append(_cell(grid, row, column, (width, height)))
    parts += [_rings(grid, (width, height)), _columns(grid, width, bottom)]
    return svg.drawing(WIDTH, bottom + 40, parts, label)


def _cell(grid: Grid, row: int, column: int, size: tuple[float, float]) -> Markup:
    x, y = LEFT + size[0] * column, TOP + size[1] * row
    strength, words = grid.strength[row][column], grid.texts[row][column]
    tip = f"{short(grid.rows[row], 40)}, {grid.columns[column]}: {words}"
    css = "cell" if strength is not None else "cell none"
    parts = [svg.box(x, y, size[0] - 1, size[1] - 1, css, title=tip, strength=strength)]
    if size[0] > 6.5 * len(words) and words != MISSING:
        over = " over" if strength is not None and strength > 0.55 else ""
        middle = (x + size[0] / 2, y + size[1] / 2 + 3.5)
        parts.append(svg.text(*middle, words, anchor="middle", css=f"value{over}"))
    return svg.group(parts)


def _rings(grid: Grid, size: tuple[float, float]) -> Markup:
    return svg.group(
        svg.box(LEFT + size[0] * c, TOP + size[1] * r, size[0] - 1, size[1] - 1, "ringed")
        for r, c in grid.ringed
        if r < len(grid.rows) and c < len(grid.columns)
    )


def _columns(grid: Grid, width: float, bottom: float) -> Markup:
    every = max(1, round(22 / width))
    parts = []
    for column, name in enumerate(grid.columns):
        middle = LEFT + width * (column + 0.5)
        if column % every == 0:
            parts.append(svg.text(middle, bottom + 14, name, anchor="middle", css="tick"))
        if column in grid.marked:
            parts.append(svg.text(middle, TOP - 4, "▼", anchor="middle", css="mark"))
    middle = (LEFT + WIDTH) / 2
    return svg.group(
        [*parts, svg.text(middle, bottom + 32, grid.x_label, anchor="middle", css="axis")]
    )


def spec(grid: Grid) -> dict[str, Any]:
    """The same for Plotly."""
    columns = [plotly_text(name) for name in grid.columns]
    rows = [plotly_text(name) for name in grid.rows]
    trace = {
        "type": "heatmap",
        "x": columns,
        "y": rows,
        "z": [list(row) for row in grid.strength],
        "text": [[plotly_text(words) for words in row] for row in grid.texts],
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
        "showscale": False,
        "colorscale": [[0, "var(--paper)"], [1, "var(--heat)"]],
        "hovertemplate": "%{y}, %{x}<br><b>%{text}</b><extra></extra>",
        "texttemplate": "%{text}" if len(columns) <= 8 else "",
    }
    marks = [
        {"x": columns[c], "y": 1.0, "yref": "paper", "yanchor": "bottom"}
        for c in grid.marked
        if c < len(columns)
    ]
    layout = {
        "xaxis": {"title": {"text": grid.x_label}, "type": "category", "showgrid": False},
        "yaxis": {"autorange": "reversed", "type": "category", "showgrid": False},
        "annotations": [{**mark, **_MARK} for mark in marks],
        "shapes": [_plotly_ring(r, c) for r, c in grid.ringed],
    }
    return {"data": [trace], "layout": layout}


def _plotly_ring(row: int, column: int) -> dict[str, Any]:
    return {
        "type": "rect",
        "x0": column - 0.5,
        "x1": column + 0.5,
        "y0": row - 0.5,
        "y1": row + 0.5,
        "line": {"color": "var(--ring)", "width": 2},
    }
