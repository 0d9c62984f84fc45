"""What the student takes from each teacher matrix, drawn on the matrix."""

from markupsafe import Markup

from paraknow_core.page import svg
from paraknow_core.page.data import Pair
from paraknow_core.page.diagnosis import Window
from paraknow_core.page.figure import Figure, Table
from paraknow_core.page.text import percent, short

TITLE = "Windows taken from the teacher’s matrices"
WIDTH, LEFT, TOP = 1120.0, 74.0, 34.0
ROW = 74.0


def draw(pair: Pair) -> Figure:
    """Draw one outline a matrix, roles × student layers, with its window filled in."""
    if not pair.windows:
        missing = "No windows were handed over: what is taken is no window, or was not recorded."
        return Figure("windows", TITLE, missing=missing, wide=True)
    roles = list(dict.fromkeys(w.role for w in pair.windows))
    inner = [role for role in roles if any(w.student_layer is not None for w in _of(pair, role))]
    outer = [role for role in roles if role not in inner]
    return Figure(
        "windows",
        TITLE,
        "The outline is the teacher’s whole matrix, the filled part is what the student takes, "
        "stronger where it holds more of the matrix’s sensitivity (the share is written below).",
        _svg(pair, inner, outer),
        table=_table(pair.windows),
        wide=True,
    )


def _of(pair: Pair, role: str) -> list[Window]:
    return [window for window in pair.windows if window.role == role]


def _svg(pair: Pair, inner: list[str], outer: list[str]) -> Markup:
    layers = sorted({w.student_layer for w in pair.windows if w.student_layer is not None})
    rows = len(inner) + bool(outer)
    width = min(100.0, (WIDTH - LEFT) / max(1, len(layers), len(outer)))
    parts = []
    for row, role in enumerate(inner):
        middle = TOP + ROW * row + 28
        parts.append(svg.text(LEFT - 12, middle, short(role, 9), anchor="end", css="name"))
        for window in _of(pair, role):
            if window.student_layer is not None:
                column = layers.index(window.student_layer)
                parts.append(_mini(window, LEFT + width * column, TOP + ROW * row, width))
    parts += [_heads(pair, layers, width)]
    for column, role in enumerate(outer):
        at, top = LEFT + width * column, TOP + ROW * len(inner)
        parts += [_mini(window, at, top + 12, width) for window in _of(pair, role)[:1]]
        parts.append(svg.text(at, top + 6, short(role, 12), css="name"))
    return svg.drawing(WIDTH, TOP + ROW * rows + 20, parts, f"{TITLE}, {pair.name}")


def _heads(pair: Pair, layers: list[int], width: float) -> Markup:
    """Which student layer takes from which teacher layer, above the columns."""
    source = {w.student_layer: w.teacher_layer for w in pair.windows}
    parts = [svg.text(0, 12, "student layer ← teacher layer", css="axis")]
    for column, layer in enumerate(layers):
        label = f"{layer} ← {source[layer]}" if width > 34 else f"{layer}"
        parts.append(svg.text(LEFT + width * column, TOP - 6, label, css="tick"))
    return svg.group(parts)


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
    return Table(head, tuple(_row(window) for window in windows))


def _row(w: Window) -> tuple[str, ...]:
    layer = "" if w.teacher_layer is None else str(w.teacher_layer)
    rows, cols = f"{w.row}–{w.row + w.rows - 1}", f"{w.col}–{w.col + w.cols - 1}"
    return (w.module, layer, rows, str(w.teacher_rows), cols, str(w.teacher_cols), percent(w.share))
