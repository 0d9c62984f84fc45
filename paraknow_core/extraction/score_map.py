"""A matrix of sensitivity, read block by block."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paraknow_core.errors import NumericsError, ShapeError

_BLOCK_ELEMENTS = 2**18  # one block in float64 is 2 MiB and stays in a core's L2 cache
_DEVICE_ELEMENTS = 2**26  # a GPU is faster with few, large kernels; 512 MiB in float64


@dataclass(frozen=True)
class ScoreMap:
    """A map that is read row block by row block, so that it need not fit into memory.

    ``read(rows)`` gives the rows of that slice as a ``(rows, shape[1])`` tensor of any float dtype.
    A shape of fewer rows than are stored leaves the others out.
    """

    shape: tuple[int, int]
    read: Callable[[slice], Tensor]

    @classmethod
    def of(cls, scores_MN: Tensor) -> "ScoreMap":
        """Read from a tensor that is already there."""
        if scores_MN.dim() != 2:
            raise ShapeError(
                f"The map has shape {tuple(scores_MN.shape)}; a window is cut from two dimensions. "
                "Pass one weight matrix's map."
            )
        return cls((scores_MN.shape[0], scores_MN.shape[1]), lambda rows: scores_MN[rows])


def blocks(source: ScoreMap, *, cuts: tuple[int, ...] = ()) -> Iterator[tuple[slice, Tensor]]:
    """Read the map once, top to bottom, in checked blocks of rows; a block ends at every cut."""
    M, N = source.shape
    start, elements = 0, _BLOCK_ELEMENTS
    while start < M:
        step = max(1, elements // N)
        stop = min((start // step + 1) * step, M, *(cut for cut in cuts if cut > start))
        values = source.read(slice(start, stop))
        _check_numbers(values, start, stop)
        yield slice(start, stop), values
        if values.is_cuda:
            elements = _DEVICE_ELEMENTS
        start = stop


def _check_numbers(values: Tensor, start: int, stop: int) -> None:
    low, high = (float(value) for value in torch.aminmax(values))
    if not (low >= 0 and high < math.inf):  # NaN fails both
        raise NumericsError(
            f"Rows {start}..{stop - 1} of the sensitivity map hold values from {low} to {high}; "
            "they must be finite and not negative. Compute the sensitivity again, in float32."
        )
