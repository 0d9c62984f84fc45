"""Where in a teacher's matrix the most sensitive sub-matrix of the student's shape lies.

Shape suffixes: M, N = rows and columns of the map; P, Q = of the collapsed map.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from paraknow_core.errors import ShapeError
from paraknow_core.extraction.score_map import ScoreMap, blocks

_FIXED_POINT_BITS = 61  # bits of an int64 that the sum of the whole map takes: no sum overflows


@dataclass(frozen=True)
class Window:
    """A contiguous sub-matrix: ``matrix[row : row + rows, col : col + cols]``.

    ``score`` is the sum of the map inside it, ``total`` the sum of the whole map.
    """

    row: int
    col: int
    rows: int
    cols: int
    score: float
    total: float


def best_window(scores: Tensor | ScoreMap, *, rows: int, cols: int) -> Window:
    """Find the contiguous window of the greatest sum: SeeKing (arXiv 2310.11451) §3.

    Every position is a candidate, and the first maximum in row-major order wins a tie. Rows and
    columns that lie in *every* window are summed into one first, which changes no comparison
    (5120² → 2049² for a window of 4096²). Sums run over 61-bit fixed-point numbers: finer than
    float64, free of drift, and the same whatever the order, the threads or the device.

    Args:
        scores: the (M, N) map, not negative, any float dtype; or a reader of its rows. To search
            the columns only, pass a reader of exactly ``rows`` rows.
        rows: height of the window, in 1..M.
        cols: width of the window, in 1..N.

    Returns:
        The window, with its sum and the map's.

    Raises:
        ShapeError: if the window does not fit into the map.
        NumericsError: if the map holds NaN, infinity or a negative number.
    """
    source = ScoreMap.of(scores) if isinstance(scores, Tensor) else scores
    _check_fits(source.shape, rows, cols)
    collapsed_PQ = _collapse(source, rows, cols)
    total = float(collapsed_PQ.sum())
    scale = 2.0 ** (_FIXED_POINT_BITS - math.frexp(total)[1])
    cells_PQ = _to_fixed_point(collapsed_PQ, scale)
    down, across = (size - keep + 1 for size, keep in zip(source.shape, (rows, cols), strict=True))
    sums = _sliding_sums(_sliding_sums(cells_PQ, down).T, across).T
    best = int(sums.argmax())  # of equal ones the first, row by row
    row, col = divmod(best, across)
    return Window(row, col, rows, cols, score=int(sums[row, col]) / scale, total=total)


def _check_fits(shape: tuple[int, int], rows: int, cols: int) -> None:
    if not (1 <= rows <= shape[0] and 1 <= cols <= shape[1]):
        raise ShapeError(
            f"A window of {rows}×{cols} does not fit into a map of {shape[0]}×{shape[1]}: the "
            "student must not be larger than the teacher in any dimension. Choose a larger teacher."
        )


def _collapse(source: ScoreMap, rows: int, cols: int) -> Tensor:
    """Sum the rows and columns common to every window into one: float64 of at most (2·(M−m)+1)."""
    M = source.shape[0]
    common = range(M - rows, rows)  # in every window; empty if the window is at most half the map
    parts, shared = [], None
    for block, values in blocks(source, cuts=(common.start, rows) if common else ()):
        if block.start in common:
            line = _collapse_columns(values.double().sum(0, keepdim=True), cols)
            shared = line if shared is None else shared + line
            if block.stop == common.stop:
                parts.append(shared)
        else:
            parts.append(_collapse_columns(values, cols))
    return torch.cat(parts)


def _collapse_columns(values: Tensor, cols: int) -> Tensor:
    """The same for the columns of one row block; gives float64."""
    free = values.shape[1] - cols
    if free >= cols:
        return values.double()
    common = values[:, free:cols].double().sum(1, keepdim=True)
    return torch.cat([values[:, :free].double(), common, values[:, cols:].double()], dim=1)


def _to_fixed_point(cells_PQ: Tensor, scale: float) -> Tensor:
    """Scale and round to int64 in the memory of the float64 argument, which is given up."""
    fixed_PQ = cells_PQ.view(torch.int64)
    for floats, integers in zip(torch.split(cells_PQ, 64), torch.split(fixed_PQ, 64), strict=True):
        integers.copy_((floats * scale).round_().to(torch.int64))
    return fixed_PQ


def _sliding_sums(cells: Tensor, positions: int) -> Tensor:
    """Sum every run of rows that has ``positions`` starts, adding one row and dropping one."""
    size = cells.shape[0] - positions + 1
    sums = cells.new_empty((positions, cells.shape[1]))
    sums[0] = cells[:size].sum(0)
    torch.sub(cells[size:], cells[: positions - 1], out=sums[1:])
    return sums.cumsum_(0)
