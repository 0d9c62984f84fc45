"""What the student takes from each teacher matrix, drawn on the matrix."""

from markupsafe import Markup

from paraknow_core.report.page import svg
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import Window
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.text import percent, short

TITLE = "Windows taken from the teacher’s matrices"
WIDTH, LEFT, TOP = 1120.0, 74.0, 40.0
ROW = 74.0


def draw(pair: Pair) -> Figure:
    """Draw one outline a matrix, roles × student layers, with its window filled in."""
    if not pair.windows:
        missing = "No windows were handed over: what is taken is no window, or was not recorded."
        return Figure("windows", TITLE, missing=missing, wide=True)
    return Figure(
        "windows",
        TITLE,
        "The outline is the teacher’s whole matrix, the filled part is what the student takes, "
        "stronger where it holds more of the matrix’s sensitivity (the share is written below). "
        "What lies outside the layers stands beside the first.",
        _svg(pair.windows, pair.name),
        table=_table(pair.windows),
        wide=True,
    )


def _svg(windows: tuple[Window, ...], name: str) -> Markup:
    """Few layers go down the page and roles across, many layers the other way round."""
    roles = list(dict.fromkeys(_role(w) for w in windows))
    inner = [window for window in windows if window.student_layer is not None]
    layers = list(dict.fromkeys(map(_layer, inner))) or [""]
    upright = len(layers) <= len(roles)
    across, down = (roles, layers) if upright else (layers, roles)
    width = min(150.0, (WIDTH - LEFT) / len(across))
    parts = [svg.text(0, 12, "student layer ← teacher layer", css="axis")]
    for place, label in enumerate(across):
        if width > 34 or place % 4 == 0:
            parts.append(svg.text(LEFT + width * place, TOP - 6, label, css="name"))
    for place, label in enumerate(down):
        parts.append(svg.text(0, TOP + ROW * place + 28, label, css="name"))
    for window in windows:
        at = roles.index(_role(window)), _row(window, layers)
        column, row = at if upright else (at[1], at[0])
        parts.append(_mini(window, LEFT + width * column, TOP + ROW * row, width))
    return svg.drawing(WIDTH, TOP + ROW * len(down) + 4, parts, f"{TITLE}, {name}")


def _role(window: Window) -> str:
    return short(window.role, 9)


def _layer(window: Window) -> str:
    return f"{window.student_layer} ← {window.teacher_layer}"


def _row(window: Window, layers: list[str]) -> int:
    """Matrices outside the layers stand beside those of the first."""
    return 0 if window.student_layer is None else layers.index(_layer(window))


def _mini(window: Window, x: float, y: float, width: float) -> Markup:
    """One matrix, as large as its place allows, sides in their true ratio within 1:4."""
    room = (width - 10, ROW - 26)
    tall = max(0.25, min(4.0, window.teacher_rows / max(1, window.teacher_cols)))
    wide = min(room[0], room[1] / tall)
    size = (wide, wide * tall)
    per_col, per_row = size[0] / window.teacher_cols, size[1] / window.teacher_rows
    tip = (
        f"{short(window.module, 80)}: rows {window.row}–{window.row + window.rows - 1} of "
        f"{window.teacher_rows}, columns {window.col}–{window.col + window.cols - 1} of "
        f"{window.teacher_cols}; {percent(window.share)} of the sensitivity"
    )
    strength = 0.35 if window.share is None else 0.2 + 0.8 * window.share
    part = (window.cols * per_col, window.rows * per_row)
    at = (x + window.col * per_col, y + window.row * per_row)
    parts = [
        svg.box(x, y, *size, "outline", title=tip),
        svg.box(*at, *part, "taken", title=tip, strength=strength),
    ]
    if width > 40:
        parts.append(svg.text(x, y + size[1] + 11, percent(window.share), css="tick"))
    return svg.group(parts)


def _table(windows: tuple[Window, ...]) -> Table:
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


def _cells(w: Window) -> tuple[str, ...]:
    layer = "" if w.teacher_layer is None else str(w.teacher_layer)
    rows, cols = f"{w.row}–{w.row + w.rows - 1}", f"{w.col}–{w.col + w.cols - 1}"
    return (w.module, layer, rows, str(w.teacher_rows), cols, str(w.teacher_cols), percent(w.share))
