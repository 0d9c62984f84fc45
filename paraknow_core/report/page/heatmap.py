"""A grid of values, stronger where they are greater; hovering tells the cell and its value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import SMALL, TINY, WIDTH, Sheet
from paraknow_core.report.page.text import MISSING, room, short

GAP = 0.8
"""Units between two cells."""


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


def plot(grid: Grid, *, width: float = WIDTH, title: str = "") -> Sheet:
    """The drawing; values are written into the cells where there is room.

    Args:
        grid: what to show.
        width: of the drawing.
        title: above it, where no page stands around the drawing.
    """
    names = [short(name, 12) for name in grid.rows]
    across, down = len(grid.columns), len(grid.rows)
    left, right = 10 + room(names), 6.0
    size = ((width - left - right) / across, max(15.0, min(26.0, 230 / down)))
    top = 62.0 if title else 38.0
    sheet = Sheet(down * size[1] + top + 38, width=width)
    axes = sheet.axes(left=left, right=right, top=top, bottom=38)
    if title:
        sheet.figure.text(0, 1 - 18 / sheet.height, short(title, 60), fontsize=SMALL + 1.5)
    axes.grid(visible=False)
    axes.set(xlim=(0, across), ylim=(down, 0))
    axes.set_title(grid.y_label, x=-left / (width - left - right), pad=18)
    axes.set_xlabel(grid.x_label)
    axes.set_yticks([row + 0.5 for row in range(down)], names)
    every = max(1, round(room(grid.columns[-1:]) * 1.3 / size[0]))
    shown = range(0, across, every)
    axes.set_xticks([place + 0.5 for place in shown], [grid.columns[place] for place in shown])
    _cells(sheet, axes, grid, size)
    _values(axes, grid, size[0])
    for column in (c for c in grid.marked if c < across):
        axes.text(column + 0.5, -0.1, "▼", ha="center", fontsize=TINY, color=colour("ring"))
    return sheet


def _cells(sheet: Sheet, axes: Any, grid: Grid, size: tuple[float, float]) -> None:
    places = [(r, c) for r in range(len(grid.rows)) for c in range(len(grid.columns))]
    held = [grid.strength[r][c] for r, c in places]
    cells = sheet.shapes(
        axes,
        [_corners(r, c, size) for r, c in places],
        facecolors=[colour("heat", 0.0 if strength is None else strength) for strength in held],
        edgecolors=[colour("rule", 1.0 if strength is None else 0.0) for strength in held],
        linewidths=0.8,
    )
    texts = [f"{short(grid.rows[r], 40)}, {grid.columns[c]}\n{grid.texts[r][c]}" for r, c in places]
    sheet.tell(cells, texts)
    inside = [(r, c) for r, c in grid.ringed if r < len(grid.rows) and c < len(grid.columns)]
    sheet.shapes(
        axes,
        [_corners(r, c, size) for r, c in inside],
        facecolors="none",
        edgecolors=[colour("ring")],
        linewidths=1.8,
    )


def _corners(row: int, column: int, size: tuple[float, float]) -> list[tuple[float, float]]:
    right, low = column + 1 - GAP / size[0], row + 1 - GAP / size[1]
    return [(column, row), (right, row), (right, low), (column, low)]


def _values(axes: Any, grid: Grid, width: float) -> None:
    for row, texts in enumerate(grid.texts):
        for column, words in enumerate(texts):
            strength = grid.strength[row][column]
            if words == MISSING or room([words]) > width - 2:
                continue
            paint = "paper" if strength is not None and strength > 0.55 else "ink"
            axes.text(
                column + 0.5,
                row + 0.5,
                words,
                ha="center",
                va="center_baseline",
                fontsize=SMALL,
                color=colour(paint),
            )
