"""Which matrix of the teacher each matrix of the student takes from. Needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from paraknow_core.architecture import Architecture, Role, TensorFacts
from paraknow_core.errors import ConfigError, ShapeError

VOCABULARY_ROLES = (Role.EMBED, Role.HEAD)
"""Roles whose rows are tokens."""


@dataclass(frozen=True)
class Match:
    """One student matrix and the teacher matrix that it is cut from."""

    role: Role
    student_layer: int | None
    teacher_layer: int | None
    student: TensorFacts
    teacher: TensorFacts
    module: str
    """Name of the student's module, as PEFT sees it."""


def match_matrices(
    teacher: Architecture, student: Architecture, *, layers: Sequence[int], roles: Sequence[str]
) -> list[Match]:
    """Pair every student matrix of the wanted roles with its teacher matrix.

    Args:
        teacher: the larger model.
        student: the smaller one. A head that is tied to its embedding is no matrix of its own and
            is left out: it is transferred once, as the embedding.
        layers: teacher layer for each student layer.
        roles: names of matrix roles, such as ``q`` or ``embed``.

    Raises:
        ConfigError: if a role is unknown or none is left.
    """
    unknown = sorted(set(roles) - {str(role) for role in Role})
    wanted = [role for role in student.roles if str(role) in roles]
    if unknown or not wanted:
        raise ConfigError(
            f"roles are {', '.join(roles) or 'none'}; allowed are {', '.join(student.roles)}"
            + (f"; unknown: {', '.join(unknown)}" if unknown else "")
        )
    found = []
    for role in wanted:
        places: list[tuple[int | None, int | None]] = [(None, None)]
        if role not in VOCABULARY_ROLES:
            places = list(enumerate(layers))
        found += [_match(teacher, student, role, *place) for place in places]
    return found


def _match(
    teacher: Architecture, student: Architecture, role: Role, to: int | None, of: int | None
) -> Match:
    # A tied teacher's head is its embedding, for a student that has a head of its own.
    source = Role.EMBED if role is Role.HEAD and teacher.tied else role
    return Match(
        role,
        to,
        of,
        student.matrix(role, to),
        teacher.matrix(source, of),
        student.module_of(role, to),
    )


def check_cuts(matches: Sequence[Match]) -> None:
    """Refuse matrices that are smaller in the teacher than in the student.

    Raises:
        ShapeError: names every role that cannot be cut, with both shapes.
    """
    bad: dict[Role, Match] = {}
    for match in matches:
        wide = zip(match.student.shape, match.teacher.shape, strict=True)
        if any(mine > theirs for mine, theirs in wide):
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
