"""Which matrix of the teacher each matrix of the student is cut from. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from paraknow_core.errors import ConfigError, ShapeError
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Matrix, Role

VOCABULARY_ROLES = (Role.EMBED, Role.HEAD)
"""Roles whose rows are tokens."""


@dataclass(frozen=True)
class Match:
    """One student matrix and the teacher matrix that it is cut from.

    Attributes:
        module: name of the student's module, as PEFT sees it.
    """

    role: Role
    student_layer: int | None
    teacher_layer: int | None
    student: Matrix
    teacher: Matrix
    module: str


def match_matrices(
    teacher: Architecture, student: Architecture, *, layers: Sequence[int], roles: Sequence[str]
) -> list[Match]:
    """Pair every student matrix of the wanted roles with its teacher matrix.

    Roles that one of the two models does not have are left out; ``skipped_roles`` says why.

    Args:
        teacher: the larger model.
        student: the smaller one, of any family.
        layers: teacher layer for each student layer.
        roles: names of matrix roles, such as ``q`` or ``embed``.

    Raises:
        ConfigError: if a role is unknown or none is left.
    """
    unknown = sorted(set(roles) - {str(role) for role in MATRIX_ROLES})
    skipped = skipped_roles(teacher, student, roles=roles)
    wanted = [role for role in student.roles if str(role) in roles and role not in skipped]
    if unknown or not wanted:
        reasons = "".join(f"; {role}: {why}" for role, why in skipped.items())
        raise ConfigError(
            f"roles are {', '.join(roles) or 'none'}; allowed are {', '.join(student.roles)}"
            + (f"; unknown: {', '.join(unknown)}" if unknown else reasons)
        )
    found = []
    for role in wanted:
        places: list[tuple[int | None, int | None]] = [(None, None)]
        if role not in VOCABULARY_ROLES:
            places = list(enumerate(layers))
        found += [_match(teacher, student, role, *place) for place in places]
    return found


def skipped_roles(
    teacher: Architecture, student: Architecture, *, roles: Sequence[str]
) -> dict[str, str]:
    """Say which of the wanted roles cannot be transferred between two models, and why.

    Args:
        teacher: the larger model.
        student: the smaller one. A head that is tied to its embedding is no matrix of its own: it
            is transferred once, as the embedding.
        roles: names of matrix roles; unknown ones are ignored.

    Returns:
        Role → reason, in report order.
    """
    reasons = {}
    for role in MATRIX_ROLES:
        if str(role) not in roles:
            continue
        if role is Role.HEAD and student.tied:
            reasons[str(role)] = "tied to the student's embedding, which carries it"
        elif role not in student.roles:
            reasons[str(role)] = f"the student ({student.model_type}) has no such matrix"
        elif source_role(teacher, role) not in teacher.roles:
            reasons[str(role)] = f"the teacher ({teacher.model_type}) has no such matrix"
    return reasons


def source_role(teacher: Architecture, role: Role) -> Role:
    """The role of the teacher's matrix for a student's: a tied teacher's head is its embedding."""
    return Role.EMBED if role is Role.HEAD and teacher.tied else role


def _match(
    teacher: Architecture, student: Architecture, role: Role, to: int | None, of: int | None
) -> Match:
    return Match(
        role,
        to,
        of,
        student.matrix(role, to),
        teacher.matrix(source_role(teacher, role), of),
        student.module_of(role, to),
    )


def check_sizes(matches: Sequence[Match], *, by_token: bool) -> None:
    """Refuse matrices that are smaller in the teacher than in the student.

    Args:
        matches: from ``match_matrices``.
        by_token: whether rows of embedding and head are matched by token, so that the teacher may
            have fewer of them.

    Raises:
        ShapeError: names every role that cannot be cut, with both shapes.
    """
    bad: dict[Role, Match] = {}
    for match in matches:
        first = 1 if by_token and match.role in VOCABULARY_ROLES else 0
        sides = zip(match.student.shape[first:], match.teacher.shape[first:], strict=True)
        if any(mine > theirs for mine, theirs in sides):
            bad.setdefault(match.role, match)
    if not bad:
        return
    lines = [
        f"{m.role}: {m.teacher.name} {list(m.teacher.shape)} is smaller than "
        f"{m.student.name} {list(m.student.shape)}"
        for m in bad.values()
    ]
    raise ShapeError(
        "The student is wider than the teacher, so these matrices cannot be cut to its shape: "
        + "; ".join(lines)
        + f". Leave these roles out ({', '.join(bad)}) or take a larger teacher."
    )
