"""Single weights drawn by seed: the random structure of SeeKing's comparison."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from paraknow_core.extraction.structures.base import Place, place_of

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.extraction.score_map import ScoreMap

_BLOCK_ELEMENTS = 2**20


def random_elements(scores: "ScoreMap", *, rows: int, cols: int, seed: int) -> Place:
    """Fill the student's matrix with single weights of the teacher's (SeeKing, §5: "random").

    Every weight is drawn uniformly and on its own, so one may be drawn twice; ``draw`` says how.
    Nothing but the seed is stored.
    """
    whole = slice(0, scores.shape[0]), slice(0, scores.shape[1])
    drawn = draw(scores.read(whole[0]), rows=rows, cols=cols, seed=seed)
    score = math.fsum(drawn.double().sum(1).tolist())
    return replace(place_of(scores, *whole), score=score, seed=seed)


def draw(matrix_MN: "Tensor", *, rows: int, cols: int, seed: int) -> "Tensor":
    """Draw single elements of a matrix; a seed gives the same ones on every machine and version.

    Element k = i·cols + j of the result, row by row, comes from place h(k) mod M·N, with h the
    k-th output of the SplitMix64 generator (Steele et al., OOPSLA 2014) that starts at the seed.
    If the matrix has just as many rows as wanted (rows are tokens), element (i, j) comes from row
    i, column h(k) mod N.

    Args:
        matrix_MN: to draw from, any dtype.
        rows: of the result.
        cols: of the result.
        seed: 0..2**63−1.

    Returns:
        rows × cols, in the dtype of the matrix.
    """
    import torch

    M, N = matrix_MN.shape
    flat = matrix_MN.reshape(-1)
    drawn = matrix_MN.new_empty((rows, cols))
    step = max(1, _BLOCK_ELEMENTS // cols)
    for first in range(0, rows, step):
        part = drawn[first : first + step]
        numbers = _splitmix(seed, first * cols, part.numel())
        if rows == M:
            own = torch.arange(first, first + len(part)).repeat_interleave(cols)
            index = own * N + torch.from_numpy((numbers % N).astype("int64"))
        else:
            index = torch.from_numpy((numbers % (M * N)).astype("int64"))
        part.copy_(flat[index].view(part.shape))
    return drawn


def _splitmix(seed: int, first: int, count: int):  # type: ignore[no-untyped-def]
    import numpy as np

    number = np.arange(first + 1, first + 1 + count, dtype=np.uint64)
    # The constants are SplitMix64's; sums and products wrap modulo 2**64, as it defines them.
    mixed = np.uint64(seed) + number * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
