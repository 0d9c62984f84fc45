"""Which part of which teacher matrix goes where: the cuts of one teacher/student pair.

A cut is the *where*, never a copy of weights. SeeKing (arXiv 2310.11451, §3.2) takes of each
matrix on its own the contiguous window of the student's shape with the greatest sensitivity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraknow_core.errors import TokenizerError
from paraknow_core.pairing import VOCABULARY_ROLES, Match
from paraknow_core.progress import Progress, no_progress

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.checkpoints import Checkpoint


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
    from paraknow_core.matrices import read_matrix
    from paraknow_core.submatrix import ScoreMap, best_window

    rows, cols = match.student.shape
    name = match.teacher.name
    depth = rows if match.role in VOCABULARY_ROLES else match.teacher.shape[0]
    width = match.teacher.shape[1]

    def read(wanted: slice) -> "Tensor":
        return read_matrix(scores, match.teacher, wanted, slice(0, width))

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
