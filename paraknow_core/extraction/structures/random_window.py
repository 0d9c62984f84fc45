"""A control: a window at a random place, drawn from the seed and not chosen by sensitivity."""

import random
from typing import TYPE_CHECKING

from paraknow_core.extraction.structures.base import Place, place_of

if TYPE_CHECKING:
    from paraknow_core.extraction.score_map import ScoreMap


def random_window(scores: "ScoreMap", *, rows: int, cols: int, seed: int) -> Place:
    """Take a contiguous window at a place drawn from the seed, each place equally likely.

    The control for ``submatrix``: it keeps everything of SeeKing (arXiv 2310.11451, §3) but the
    search for sensitivity.
    """
    # Only random(): later Pythons keep its sequence for a seed, but not that of randrange().
    numbers = random.Random(seed)  # noqa: S311 - a reproducible draw, not a secret
    row, col = (
        int(numbers.random() * (size - kept + 1))
        for size, kept in zip(scores.shape, (rows, cols), strict=True)
    )
    return place_of(scores, slice(row, row + rows), slice(col, col + cols))
