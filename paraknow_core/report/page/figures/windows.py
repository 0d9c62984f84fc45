"""What the student takes from each teacher matrix, drawn on the matrix."""

from functools import partial
from typing import Any

from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import ShownWindow
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.palette import colour
from paraknow_core.report.page.sheet import SMALL, TINY, WIDTH, Sheet
from paraknow_core.report.page.text import MISSING, percent, room, short

TITLE = "Windows taken from the teacher’s matrices"

Corners = list[tuple[float, float]]


def draw(pair: Pair) -> Figure:
    """Draw one outline a matrix, roles × student layers, with its window filled in."""
    if not pair.windows:
        missing = "No windows were handed over: what is taken is no window, or was not recorded."
        return Figure("windows", TITLE, missing=missing)
    return Figure(
        "windows",
        TITLE,
        "The outline is the teacher’s whole matrix, the filled part is what the student takes, "
        "stronger where it holds more of the matrix’s sensitivity (the share is written below "
        "where there is room). What lies outside the layers stands beside the first.",
        partial(plot, pair.windows),
        f"{TITLE}, {pair.name}",
        _table(pair.windows),
    )


def plot(windows: tuple[ShownWindow, ...]) -> Sheet:
    """Few layers go down the drawing and roles across, many layers the other way round."""
    roles = list(dict.fromkeys(_role(w) for w in windows))
    inner = [window for window in windows if window.student_layer is not None]
    layers = list(dict.fromkeys(map(_layer, inner))) or [""]
    upright = len(layers) <= len(roles)
    across, down = (roles, layers) if upright else (layers, roles)
    left = 10 + room(down)
    size = min(90.0, (WIDTH - left - 4) / len(across))
    told = size > room(["99 %"])  # whether the share has room below its matrix
    height = size + (14 if told else 2)
    sheet = Sheet(height * len(down) + 40)
    axes = sheet.axes(left=left, right=WIDTH - left - size * len(across), top=38, bottom=2)
    axes.set(xlim=(0, size * len(across)), ylim=(height * len(down), 0))
    axes.set_title("student layer ← teacher layer", x=-left / (size * len(across)), pad=22)
    _labels(axes, across, down, (size, height))
    at = [(roles.index(_role(w)), _row(w, layers)) for w in windows]
    corners = [(size * (c if upright else r), height * (r if upright else c)) for c, r in at]
    _matrices(sheet, axes, windows, [(x, y, size) for x, y in corners])
    for window, (x, y) in zip(windows, corners, strict=True) if told else ():
        share = MISSING if window.share is None else f"{100 * window.share:.0f} %"
        axes.text(x, y + size - 3, share, va="top", fontsize=TINY, color=colour("soft"))
    return sheet


def _labels(axes: Any, across: list[str], down: list[str], size: tuple[float, float]) -> None:
    axes.grid(visible=False)
    axes.xaxis.tick_top()
    every = max(1, -(-room(across) // size[0])) if across else 1
    shown = range(0, len(across), int(every))
    axes.set_xticks([size[0] * c for c in shown], [across[c] for c in shown], ha="left")
    middle = [size[1] * row + size[0] / 2 for row in range(len(down))]
    axes.set_yticks(middle, down, fontsize=SMALL)


def _role(window: ShownWindow) -> str:
    return short(window.role, 9)


def _layer(window: ShownWindow) -> str:
    return f"{window.student_layer} ← {window.teacher_layer}"


def _row(window: ShownWindow, layers: list[str]) -> int:
    """Matrices outside the layers stand beside those of the first."""
    return 0 if window.student_layer is None else layers.index(_layer(window))


def _matrices(
    sheet: Sheet,
    axes: Any,
    windows: tuple[ShownWindow, ...],
    places: list[tuple[float, float, float]],
) -> None:
    """Each matrix as large as its place allows, its sides in their true ratio within 1:4."""
    drawn = [_corners(w, place) for w, place in zip(windows, places, strict=True)]
    tips = [_tip(window) for window in windows]
    whole = sheet.shapes(
        axes,
        [outline for outline, _ in drawn],
        facecolors=[colour("heat", 0.0)],
        edgecolors=[colour("soft")],
        linewidths=0.8,
    )
    taken = sheet.shapes(
        axes,
        [part for _, part in drawn],
        facecolors=[
            colour("heat", 0.35 if w.share is None else 0.2 + 0.8 * w.share) for w in windows
        ],
        linewidths=0,
    )
    sheet.tell(whole, tips)
    sheet.tell(taken, tips)


def _corners(window: ShownWindow, place: tuple[float, float, float]) -> tuple[Corners, Corners]:
    """Of the whole matrix, and of the part that is taken."""
    x, y, side = place
    tall = max(0.25, min(4.0, window.teacher_rows / max(1, window.teacher_cols)))
    wide = min(side - 5, (side - 5) / tall)
    size = (wide, wide * tall)
    per_col, per_row = size[0] / window.teacher_cols, size[1] / window.teacher_rows
    at = (x + window.col * per_col, y + window.row * per_row)
    return _box((x, y), size), _box(at, (window.cols * per_col, window.rows * per_row))


def _box(at: tuple[float, float], size: tuple[float, float]) -> Corners:
    right, low = at[0] + size[0], at[1] + size[1]
    return [at, (right, at[1]), (right, low), (at[0], low)]


def _tip(window: ShownWindow) -> str:
    return (
        f"{short(window.module, 80)}\nrows {window.row}–{window.row + window.rows - 1} of "
        f"{window.teacher_rows}, columns {window.col}–{window.col + window.cols - 1} of "
        f"{window.teacher_cols}\n{percent(window.share)} of the sensitivity"
    )


def _table(windows: tuple[ShownWindow, ...]) -> Table:
    head = (
        "student module",
        "teacher layer",
        "rows",
        "of",
        "columns",
        "of",
        "share of sensitivity",
    )
    return Table(head, tuple(_cells(window) for window in windows))


def _cells(w: ShownWindow) -> tuple[str, ...]:
    layer = "" if w.teacher_layer is None else str(w.teacher_layer)
    rows, cols = f"{w.row}–{w.row + w.rows - 1}", f"{w.col}–{w.col + w.cols - 1}"
    return (w.module, layer, rows, str(w.teacher_rows), cols, str(w.teacher_cols), percent(w.share))
