"""A role's matrix as out_features × in_features, wherever and however it is stored.

Shapes: M = out_features, N = in_features.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paraknow_core.architecture import TensorFacts

if TYPE_CHECKING:
    from paraknow_core.checkpoints import Checkpoint

Selection = slice | Tensor
"""A run of rows or columns, or a one-dimensional int64 tensor of them, in any order."""


def read_matrix(
    checkpoint: "Checkpoint", matrix: TensorFacts, rows: Selection, cols: Selection
) -> Tensor:
    """Read part of a matrix; only the pages that hold it are touched.

    Args:
        checkpoint: weights, or sensitivity maps, under the model's tensor names.
        matrix: the (M, N) matrix to read from.
        rows: which of its M rows.
        cols: which of its N columns.

    Returns:
        A contiguous copy, len(rows) × len(cols), in the stored dtype.

    Raises:
        CheckpointError: if there is no such matrix, or the part leaves it.
    """
    span_M, span_N = _span(rows), _span(cols)
    part = checkpoint.read_slice(matrix.name, span_M, span_N)
    if isinstance(rows, Tensor):
        part = part[rows - span_M.start]
    if isinstance(cols, Tensor):
        part = part[:, cols - span_N.start]
    return part.contiguous()


def _span(wanted: Selection) -> slice:
    """The smallest run that holds what is wanted."""
    if isinstance(wanted, slice):
        return wanted
    if wanted.numel() == 0:
        return slice(0, 0)
    low, high = torch.aminmax(wanted)
    return slice(int(low), int(high) + 1)
