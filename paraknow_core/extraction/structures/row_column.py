"""Rows and columns by their own sums: the row/column structure of SeeKing's comparison."""

from typing import TYPE_CHECKING

from paraknow_core.extraction.structures.base import Place, greatest, line_sums, place_of

if TYPE_CHECKING:
    from paraknow_core.extraction.score_map import ScoreMap


def row_column(scores: "ScoreMap", *, rows: int, cols: int, seed: int) -> Place:  # noqa: ARG001
    """Keep the most sensitive rows and, independently, columns (SeeKing, arXiv 2310.11451, §5).

    A row's or column's sensitivity is its sum over the whole matrix. What is kept stays in the
    teacher's order.
    """
    rows_M, cols_N = line_sums(scores)
    return place_of(scores, greatest(rows_M, rows), greatest(cols_N, cols))
