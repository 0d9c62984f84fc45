"""What the teacher gives to one module of the student: the cuts of its roles, put together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from paraknow_core.architecture import Architecture, Role
from paraknow_core.extraction import Cut, Indices, read_cut
from paraknow_core.pairing import source_role

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.checkpoints import Checkpoint


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
        indices: rows and columns of cuts that are no windows.

    Returns:
        out_features × in_features of the module, in the teacher's dtype; rows of roles without a
        cut are zero.
    """
    from paraknow_core.matrices import assemble

    parts = []
    for cut in cuts:
        role = Role(cut.role)
        matrix = teacher.matrix(source_role(teacher, role), cut.teacher_layer)
        values = read_cut(weights, matrix, cut, indices)
        parts.append((student.matrix(role, cut.student_layer), values))
    return assemble(parts)
