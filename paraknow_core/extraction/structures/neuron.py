"""Whole output neurons: the neuron structure of SeeKing's comparison."""

from typing import TYPE_CHECKING

from paraknow_core.extraction.structures.base import Place, greatest, line_sums, place_of

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.extraction.score_map import ScoreMap


def neuron(scores: "ScoreMap", *, rows: int, cols: int, seed: int) -> Place:  # noqa: ARG001
    """Keep the most sensitive output neurons, then the inputs that matter most to *them*.

    SeeKing (arXiv 2310.11451, §5) compares neurons without saying how one of a wide model fits
    into a narrow one. Here a neuron is a row; the student's number of rows with the greatest sums
    is kept, and of their inputs the columns with the greatest sums over those rows only. All
    neurons keep the same inputs, so that a column stays one input (with a choice of inputs for
    each neuron it would not, and the choice would take as much room as the matrix). Order is the
    teacher's.
    """
    from paraknow_core.extraction.score_map import ScoreMap

    kept = greatest(line_sums(scores)[0], rows)
    if len(kept) == scores.shape[0]:
        return place_of(scores, kept, greatest(line_sums(scores)[1], cols))

    def read(wanted: slice) -> "Tensor":
        some = kept[wanted]
        first = int(some[0])
        return scores.read(slice(first, int(some[-1]) + 1))[some - first]

    _, cols_N = line_sums(ScoreMap((rows, scores.shape[1]), read))
    return place_of(scores, kept, greatest(cols_N, cols))
