"""A role's matrix as out_features × in_features, wherever and however it is stored.

Fused projections hold several roles in the rows of one matrix, one after the other (Phi-3, GPT-2)
or head by head (GPT-NeoX); GPT-2's Conv1D stores a matrix transposed. Weights and sensitivity maps
have the same layout, so these functions read both.

Shapes: M = out_features, N = in_features; W = rows of a complete fused matrix.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paraknow_core.errors import CheckpointError, ShapeError
from paraknow_core.models.architecture import Matrix

if TYPE_CHECKING:
    from paraknow_core.checkpoint.reader import Checkpoint

Selection = slice | Tensor
"""Consecutive rows or columns, or their indices in any order (one-dimensional, int64)."""


def read_matrix(
    checkpoint: "Checkpoint", matrix: Matrix, rows: Selection, cols: Selection
) -> Tensor:
    """Read part of a matrix; only the pages that hold it are touched.

    Args:
        checkpoint: weights, or sensitivity maps, under the checkpoint's tensor names.
        matrix: the (M, N) matrix to read from.
        rows: which of its M rows.
        cols: which of its N columns.

    Returns:
        A contiguous copy, len(rows) × len(cols), in the stored dtype.

    Raises:
        CheckpointError: if there is no such matrix, or the part reaches beyond it.
    """
    wanted = _stored_rows(matrix, rows)
    if matrix.transposed:
        return _read(checkpoint, matrix.name, cols, wanted).T.contiguous()
    return _read(checkpoint, matrix.name, wanted, cols).contiguous()


def take(stored: Tensor, matrix: Matrix) -> Tensor:
    """Cut one role's matrix out of the tensor that holds it.

    Args:
        stored: the whole tensor as the checkpoint has it.
        matrix: the (M, N) matrix to take.

    Returns:
        M × N in the dtype of ``stored``; shares its memory where the layout allows.
    """
    return _of_role(stored.T if matrix.transposed else stored, matrix).flatten(0, 1)


def assemble(parts: Sequence[tuple[Matrix, Tensor]]) -> Tensor:
    """Build the complete matrix of a module from the matrices of its roles.

    Args:
        parts: matrices of one module, each with its values, M × N.

    Returns:
        W × N in the values' dtype; rows of roles that are not given are zero.

    Raises:
        ShapeError: if a matrix is of another module, or its values have another shape.
    """
    first, values = parts[0]
    for matrix, part_MN in parts:
        if matrix.module != first.module or tuple(part_MN.shape) != matrix.shape:
            raise ShapeError(
                f"Values of shape {tuple(part_MN.shape)} are given for {matrix.role} of "
                f"{matrix.module}, shape {matrix.shape}, as part of {first.module}."
            )
    if not first.is_fused:
        return values
    whole_WN = values.new_zeros(first.whole)
    for matrix, part_MN in parts:
        _of_role(whole_WN, matrix).copy_(part_MN.reshape(matrix.blocks.count, -1, matrix.shape[1]))
    return whole_WN


def _of_role(whole_WN: Tensor, matrix: Matrix) -> Tensor:
    """A view of a role's rows: blocks × rows of a block × N."""
    blocks = matrix.blocks
    grouped: Tensor = whole_WN.unflatten(0, (blocks.count, blocks.stride))  # type: ignore[no-untyped-call]
    return grouped[:, blocks.offset : blocks.offset + blocks.size]


def _stored_rows(matrix: Matrix, rows: Selection) -> Selection:
    """Turn rows of a role into rows of the whole matrix that holds it."""
    blocks = matrix.blocks
    span = _span(rows)
    start, stop = span.start or 0, blocks.rows if span.stop is None else span.stop
    if span.step not in (None, 1) or not 0 <= start <= stop <= blocks.rows:
        raise CheckpointError(
            f"Rows {start}..{stop} of the {matrix.role} matrix in {matrix.name} are asked for, "
            f"allowed are 0..{blocks.rows} without a step."
        )
    if blocks.count == 1 and isinstance(rows, slice):
        return slice(blocks.offset + start, blocks.offset + stop)
    index = torch.arange(start, stop) if isinstance(rows, slice) else rows
    return blocks.offset + index // blocks.size * blocks.stride + index % blocks.size


def _read(checkpoint: "Checkpoint", name: str, rows: Selection, cols: Selection) -> Tensor:
    span_M, span_N = _span(rows), _span(cols)
    part = checkpoint.read_slice(name, span_M, span_N)
    if isinstance(rows, Tensor):
        part = part[rows - span_M.start]
    if isinstance(cols, Tensor):
        part = part[:, cols - span_N.start]
    return part


def _span(wanted: Selection) -> slice:
    """The smallest slice that contains everything that is wanted."""
    if isinstance(wanted, slice):
        return wanted
    if wanted.numel() == 0:
        return slice(0, 0)
    low, high = torch.aminmax(wanted)
    return slice(int(low), int(high) + 1)
