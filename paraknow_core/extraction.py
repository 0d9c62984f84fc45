"""Which part of which teacher matrix goes where: the cuts of one teacher/student pair.

A cut is the *where*, never a copy of weights. SeeKing (arXiv 2310.11451, §3.2) takes of each
matrix on its own the contiguous window of the student's shape with the greatest sensitivity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraknow_core.architecture import Architecture, Role, TensorFacts
from paraknow_core.errors import ConfigError, ShapeError, TokenizerError
from paraknow_core.progress import Progress, no_progress

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.checkpoints import Checkpoint

VOCABULARY_ROLES = (Role.EMBED, Role.HEAD)


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


@dataclass(frozen=True)
class Cut:
    """Rows ``row..row+rows`` and columns ``col..col+cols`` of a teacher tensor, for one module."""

    role: str
    student_layer: int | None
    teacher_layer: int | None
    tensor: str
    module: str
    row: int
    col: int
    rows: int
    cols: int
    score: float
    """Sum of sensitivity inside the window."""
    total: float
    """Sum of sensitivity of the whole matrix."""


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


def check_vocabularies(
    teacher: Mapping[str, object], student: Mapping[str, object], *, roles: Sequence[str]
) -> None:
    """Refuse to move embedding or head rows between different tokenizers.

    Args:
        teacher: ``{"size": …, "vocabulary": digest}`` of its tokenizer.
        student: the same of the student's.
        roles: roles to be moved.

    Raises:
        TokenizerError: if rows of one vocabulary would land on tokens of another.
    """
    moved = [role for role in VOCABULARY_ROLES if role in roles]
    if moved and teacher["vocabulary"] != student["vocabulary"]:
        raise TokenizerError(
            f"The tokenizers differ (teacher {teacher['size']} tokens, student {student['size']}), "
            f"so a row of the teacher's {' and '.join(moved)} is another token in the student. "
            f"Leave {' and '.join(moved)} out of the roles, or take a pair with one tokenizer."
        )


def choose_windows(
    scores: "Checkpoint", matches: Sequence[Match], *, progress: Progress = no_progress
) -> list[Cut]:
    """Find each matrix's window of greatest sensitivity (SeeKing, arXiv 2310.11451, §3.2).

    Rows of embedding and head are tokens, so with one tokenizer and padded vocabularies of
    different sizes row i stays row i and only the columns are searched. With equal vocabularies
    that is the same as the paper's window.

    Args:
        scores: sensitivity maps, float32, under the teacher's tensor names.
        matches: from ``match_matrices``, already checked.
        progress: called after each matrix.
    """
    cuts = []
    for done, match in enumerate(matches):
        progress(done, len(matches), match.module)
        cuts.append(_window(scores, match))
    return cuts


def _window(scores: "Checkpoint", match: Match) -> Cut:
    from paraknow_core.submatrix import ScoreMap, best_window

    rows, cols = match.student.shape
    name = match.teacher.name
    depth = rows if match.role in VOCABULARY_ROLES else match.teacher.shape[0]
    width = match.teacher.shape[1]

    def read(wanted: slice) -> "Tensor":
        return scores.read_slice(name, wanted, slice(0, width))

    found = best_window(ScoreMap((depth, width), read), rows=rows, cols=cols)
    return Cut(
        str(match.role),
        match.student_layer,
        match.teacher_layer,
        name,
        match.module,
        found.row,
        found.col,
        rows,
        cols,
        found.score,
        found.total,
    )
