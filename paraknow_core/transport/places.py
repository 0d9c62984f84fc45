"""Where a matrix meets activations: what goes into it, what comes out of it, and its weight.

Shapes: M = out_features, N = in_features of one role's matrix.
"""

from typing import Any

import torch
from torch import Tensor

from paraknow_core.models.architecture import Architecture, Matrix
from paraknow_core.models.families import Role
from paraknow_core.models.matrices import take
from paraknow_core.models.modules import logical
from paraknow_core.signals.activations import ActivationPlace


def column_place(model: Architecture, matrix: Matrix, role: Role) -> ActivationPlace:
    """Where a matrix's columns are activations.

    Args:
        model: whose matrix it is.
        matrix: the matrix; of a tied head it is the embedding's.
        role: what it is used as. An embedding's columns are what it puts out.
    """
    if role is Role.EMBED:
        return ActivationPlace(model.module_of(Role.EMBED), "out")
    return ActivationPlace(model.module_of(role, matrix.layer), "in")


def row_place(matrix: Matrix) -> ActivationPlace:
    """Where a matrix's rows are activations: its module's outputs, of a fused one its own."""
    own = tuple(role_rows(matrix).tolist()) if matrix.is_fused else None
    return ActivationPlace(matrix.module, "out", own)


def role_rows(matrix: Matrix) -> Tensor:
    """The rows of its module's complete matrix that belong to a role's matrix, in order."""
    blocks = matrix.blocks
    starts = blocks.offset + blocks.stride * torch.arange(blocks.count)
    return (starts[:, None] + torch.arange(blocks.size)).flatten()


def weight_of(model: Any, matrix: Matrix) -> Tensor:
    """A role's matrix of a loaded model.

    Args:
        model: of Transformers.
        matrix: of its architecture.

    Returns:
        M × N, float64 on the CPU: a copy.
    """
    return take(model.get_submodule(matrix.module).weight.detach(), matrix).double().cpu()


def set_weight(model: Any, matrix: Matrix, values_MN: Tensor) -> None:
    """Write a role's matrix of a loaded model, in place.

    Args:
        model: of Transformers.
        matrix: of its architecture.
        values_MN: M × N, of any dtype and device.
    """
    layer = model.get_submodule(matrix.module)
    with torch.no_grad():
        logical(layer.weight, layer)[role_rows(matrix)] = values_MN.to(layer.weight)
