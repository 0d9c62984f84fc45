"""What the teacher gives to one module of the student: the cuts of its roles, put together."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from paraknow_core.alignment.matrices import VOCABULARY_ROLES, source_role
from paraknow_core.extraction.cuts import Cut
from paraknow_core.models.describe import Architecture, Matrix, Role

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.checkpoint.reader import Checkpoint

Indices = Mapping[str, "Tensor"]
"""``<module>.<role>.rows`` and ``.cols`` → int32 numbers in the teacher's matrix; −1 for none."""


def cuts_by_module(cuts: Sequence[Cut]) -> dict[str, list[Cut]]:
    """Group cuts by the student's module: a fused projection has one cut for each of its roles."""
    modules: dict[str, list[Cut]] = {}
    for cut in cuts:
        modules.setdefault(cut.module, []).append(cut)
    return modules


def module_weight(
    weights: "Checkpoint",
    teacher: Architecture,
    student: Architecture,
    cuts: Sequence[Cut],
    indices: Indices,
) -> "Tensor":
    """Read the cuts of one module and assemble them to a matrix of the module's shape.

    Args:
        weights: the teacher's.
        teacher: its architecture, of any family.
        student: the student's; a fused projection gets the rows of each role in their places.
        cuts: of one module of the student.
        indices: rows and columns of cuts that are not consecutive.

    Returns:
        out_features × in_features of the module, in the teacher's dtype; rows of roles without a
        cut are zero.
    """
    from paraknow_core.models.matrices import assemble

    parts = []
    for cut in cuts:
        role = Role(cut.role)
        matrix = teacher.matrix(source_role(teacher, role), cut.teacher_layer)
        values = read_cut(weights, matrix, cut, indices)
        parts.append((student.matrix(role, cut.student_layer), values))
    return assemble(parts)


def read_cut(checkpoint: "Checkpoint", matrix: Matrix, cut: Cut, indices: Indices) -> "Tensor":
    """Read the teacher's weights that a cut takes.

    Args:
        checkpoint: the teacher's weights.
        matrix: the teacher's matrix that the cut is of.
        cut: where to read.
        indices: of the same extract step.

    Returns:
        rows × cols of the cut, in the stored dtype; rows of tokens without a partner are zero.
    """
    import torch

    from paraknow_core.extraction.structures.random_elements import draw
    from paraknow_core.models.matrices import read_matrix

    rows = _selection(cut.row, cut.rows, indices.get(_name(cut, "rows")), matrix.shape[0])
    cols = _selection(cut.col, cut.cols, indices.get(_name(cut, "cols")), matrix.shape[1])
    order = None
    if isinstance(rows, torch.Tensor) and cut.role in VOCABULARY_ROLES:
        ranked = torch.sort(rows, stable=True)
        present = ranked.values >= 0
        rows, order = ranked.values[present], ranked.indices[present]
    values = read_matrix(checkpoint, matrix, rows, cols)
    if cut.seed is not None:
        height = cut.rows if order is None else len(order)
        values = draw(values, rows=height, cols=cut.cols, seed=cut.seed)
    if order is None:
        return values
    return values.new_zeros((cut.rows, cut.cols)).index_copy_(0, order, values)


def _selection(
    first: int | None, size: int, index: "Tensor | None", whole: int
) -> "slice | Tensor":
    if first is not None:
        return slice(first, first + size)
    return slice(0, whole) if index is None else index.long()


def _name(cut: Cut, side: str) -> str:
    return f"{cut.module}.{cut.role}.{side}"
