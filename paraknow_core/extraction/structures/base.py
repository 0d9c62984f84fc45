"""What a structure gets and what it returns, and sums that several structures need.

Shape suffixes: M, N = rows and columns of a map.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.alignment.matrices import Match
    from paraknow_core.extraction.score_map import ScoreMap
    from paraknow_core.models.describe import Architecture


@dataclass(frozen=True)
class Request:
    """One matrix that is to be cut to ``rows`` × ``cols``.

    ``scores`` is its sensitivity map. Of embedding and head it holds just the rows of the student's
    tokens, so there ``rows`` is all of them and only the columns are chosen.

    Attributes:
        seed: of this matrix: drawn from the step's seed and the matrix's name.
    """

    match: "Match"
    scores: "ScoreMap"
    rows: int
    cols: int
    seed: int


@dataclass(frozen=True)
class Place:
    """Which rows and columns of a map are taken: a slice, or ascending int64 indices.

    Attributes:
        score: sum of the map over what is taken.
        total: sum of the whole map.
        seed: if given, single weights are drawn from the rows and columns, as ``draw`` does.
    """

    rows: "slice | Tensor"
    cols: "slice | Tensor"
    score: float
    total: float
    seed: int | None = None


MatrixStructure = Callable[..., Place]
"""``(scores, *, rows, cols, seed)`` → the place of the student's matrix in one teacher matrix."""


def _nothing_to_check(
    teacher: "Architecture", student: "Architecture", roles: Sequence[str]
) -> None:
    """Most structures fit every pair whose matrices are large enough."""


@dataclass(frozen=True)
class Structure:
    """How the matrices of one pair are cut.

    Attributes:
        find: requests, teacher, student → a place for each request, in their order.
        check: raises ShapeError for a pair that it cannot cut; called before anything is computed.
        element_bytes: memory needed for each element of the largest teacher matrix.
        is_contiguous: whether rows and columns are always consecutive, so no indices are stored.
    """

    find: "Callable[[Sequence[Request], Architecture, Architecture], Iterable[Place]]"
    check: "Callable[[Architecture, Architecture, Sequence[str]], None]" = _nothing_to_check
    element_bytes: int = 0
    is_contiguous: bool = False


def each_matrix(
    choose: MatrixStructure, *, element_bytes: int = 0, is_contiguous: bool = False
) -> Structure:
    """Cut every matrix on its own."""

    def find(
        requests: Sequence[Request],
        teacher: "Architecture",  # noqa: ARG001
        student: "Architecture",  # noqa: ARG001
    ) -> Iterable[Place]:
        return (
            choose(asked.scores, rows=asked.rows, cols=asked.cols, seed=asked.seed)
            for asked in requests
        )

    return Structure(find, element_bytes=element_bytes, is_contiguous=is_contiguous)


def line_sums(scores: "ScoreMap") -> tuple["Tensor", "Tensor"]:
    """Sum every row (M,) and every column (N,) of a map, in float64, on the CPU."""
    import torch

    from paraknow_core.extraction.score_map import blocks

    rows_M, cols_N = [], torch.zeros(scores.shape[1], dtype=torch.float64)
    for _, values in blocks(scores):
        rows_M.append(values.sum(1, dtype=torch.float64).cpu())
        cols_N += values.sum(0, dtype=torch.float64).cpu()
    return torch.cat(rows_M), cols_N


def greatest(sums: "Tensor", count: int) -> "Tensor":
    """Indices of the ``count`` greatest sums, ascending; of equal sums the first are kept."""
    import torch

    ranked = torch.sort(sums, descending=True, stable=True).indices
    return ranked[:count].sort().values


def place_of(scores: "ScoreMap", rows: "slice | Tensor", cols: "slice | Tensor") -> Place:
    """Sum the map over the rows and columns that are taken, and over all."""
    import torch

    from paraknow_core.extraction.score_map import blocks

    taken_M = torch.zeros(scores.shape[0], dtype=torch.bool)
    taken_M[rows] = True
    inside, whole = [], []
    for block, values in blocks(scores):
        whole += values.sum(1, dtype=torch.float64).tolist()
        inside += values[taken_M[block]][:, cols].sum(1, dtype=torch.float64).tolist()
    return Place(rows, cols, math.fsum(inside), math.fsum(whole))
