"""The contiguous window of the greatest sensitivity: SeeKing (arXiv 2310.11451), §3."""

from typing import TYPE_CHECKING

from paraknow_core.extraction.structures.base import Place

if TYPE_CHECKING:
    from paraknow_core.extraction.score_map import ScoreMap


def submatrix(scores: "ScoreMap", *, rows: int, cols: int, seed: int) -> Place:  # noqa: ARG001
    """Take the window of ``rows`` × ``cols`` with the greatest sum (SeeKing, §3)."""
    from paraknow_core.extraction.window import best_window

    found = best_window(scores, rows=rows, cols=cols)
    return Place(
        slice(found.row, found.row + rows),
        slice(found.col, found.col + cols),
        found.score,
        found.total,
    )
