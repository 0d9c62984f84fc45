"""What would be cut from a teacher for a student, and what not and why, before anything runs.

Reads architectures and vocabularies only. Needs no torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from paraknow_core.alignment.matrices import (
    VOCABULARY_ROLES,
    Match,
    check_sizes,
    match_matrices,
    skipped_roles,
)
from paraknow_core.alignment.tokens import TokenMatch, check_share, match_tokens
from paraknow_core.errors import ParaknowError
from paraknow_core.extraction.structures import STRUCTURES
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role


@dataclass(frozen=True)
class RoleReport:
    """What happens with the matrices of one role.

    Attributes:
        role: its name.
        teacher_shapes, student_shapes: every shape of its matrices, usually one; empty if none.
        count: how many matrices of the student are cut.
        status: ``cut``, ``skipped`` (not wanted, or nothing there to transfer) or ``blocked``.
        reason: why it is skipped or blocked; else how it is cut.
    """

    role: str
    teacher_shapes: tuple[tuple[int, ...], ...]
    student_shapes: tuple[tuple[int, ...], ...]
    count: int
    status: str
    reason: str


@dataclass(frozen=True)
class Problem:
    """Why a pair cannot run.

    Attributes:
        kind: ``pair`` or ``machine``.
        message: with the values, and what to change.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Vocabularies:
    """How two tokenizers relate.

    Attributes:
        equal: whether each token of one has the same number in the other.
        teacher_tokens, student_tokens: how many each has.
        shared: share of the student's tokens whose text is a token of the teacher too, 0..1.
        same_row: share of the student's tokens with the same number in the teacher, 0..1.
        tokens: the teacher's row for each student token, if the tokenizers differ.
    """

    equal: bool
    teacher_tokens: int
    student_tokens: int
    shared: float
    same_row: float
    tokens: TokenMatch | None = None


@dataclass(frozen=True)
class Compatibility:
    """Whether and how a student can take from a teacher.

    Attributes:
        roles: one report for each role that one of the two has.
        matches: what would be cut; empty where the depth does not allow any.
        problems: each of them is enough to stop a run.
        max_rank: the greatest rank that every matrix allows; 0 if nothing is cut.
        narrowest: name of the student's matrix that limits the rank.
    """

    roles: tuple[RoleReport, ...]
    matches: tuple[Match, ...]
    problems: tuple[Problem, ...]
    max_rank: int
    narrowest: str


def compare_vocabularies(
    teacher: Mapping[str, int],
    student: Mapping[str, int],
    *,
    teacher_rows: int,
    student_rows: int,
) -> Vocabularies:
    """Compare two vocabularies, token text → number, by the rule that a run follows.

    Args:
        teacher: vocabulary of its tokenizer, added tokens included.
        student: the same for the student.
        teacher_rows: rows of the teacher's embedding.
        student_rows: rows of the student's.
    """
    equal = dict(teacher) == dict(student)
    rows = {"teacher_rows": teacher_rows, "student_rows": student_rows}
    found = match_tokens(teacher, student, **rows)
    same = sum(row == number for number, row in enumerate(found.rows))
    return Vocabularies(
        equal=equal,
        teacher_tokens=len(teacher),
        student_tokens=len(student),
        shared=found.share,
        same_row=same / max(found.tokens, 1),
        tokens=None if equal else found,
    )


def compare_models(
    teacher: Architecture,
    student: Architecture,
    vocabularies: Vocabularies,
    *,
    roles: Sequence[str],
    rank: int,
    structure: str,
    min_share: float,
) -> Compatibility:
    """Find what would be cut for which role, and everything that stops a run.

    Args:
        teacher: the larger model.
        student: the smaller one.
        vocabularies: as ``compare_vocabularies`` gives it.
        roles: kinds of matrix to transfer.
        rank: of the adapter.
        structure: how matrices are cut, a name in ``STRUCTURES``.
        min_share: how many of the student's tokens the teacher must have, if tokenizers differ.

    Raises:
        ConfigError: if a role is unknown, or the student has none of the roles.
    """
    layers = range(min(teacher.num_layers, student.num_layers))
    match_matrices(student, student, layers=layers, roles=roles)  # refuses unknown roles
    reports, cut, all_found = [], [], []
    for role in MATRIX_ROLES:
        if role in teacher.roles or role in student.roles:
            report, matches = _role(
                teacher, student, role, layers, wanted=roles, words=vocabularies
            )
            all_found += matches
            if role in VOCABULARY_ROLES:
                report = _rows(report, vocabularies, min_share)
            reports.append(report)
            cut += matches if report.status == "cut" else []
    max_rank, narrowest = _rank_limit(cut)
    problems = [
        *_depth(teacher, student),
        *_width(all_found, vocabularies),
        *_words(all_found, vocabularies, min_share),
    ]
    if not problems:
        names = [str(match.role) for match in all_found]
        check = partial(STRUCTURES[structure].check, teacher, student, names)
        problems += _problems(check)
    if not cut and not problems:
        problems.append(Problem("pair", "No matrix is left to cut. Name other roles."))
    elif cut and rank > max_rank:
        problems.append(_rank_problem(rank, max_rank, narrowest))
    return Compatibility(tuple(reports), tuple(cut), tuple(problems), max_rank, narrowest)


def _depth(teacher: Architecture, student: Architecture) -> list[Problem]:
    if student.num_layers <= teacher.num_layers:
        return []
    return [
        Problem(
            "pair",
            f"The student has {student.num_layers} layers, the teacher only {teacher.num_layers}; "
            "each student layer needs a teacher layer of its own. Take a deeper teacher.",
        )
    ]


def _role(
    teacher: Architecture,
    student: Architecture,
    role: Role,
    layers: Sequence[int],
    *,
    wanted: Sequence[str],
    words: Vocabularies,
) -> tuple[RoleReport, list[Match]]:
    """Report one role: its shapes, and how it is cut or why it is not."""
    theirs, mine = _shapes(teacher, role), _shapes(student, role)
    why = "not among the wanted roles"
    if str(role) in wanted:
        why = skipped_roles(teacher, student, roles=[role]).get(role, "")
    if why:
        return RoleReport(role, theirs, mine, 0, "skipped", why), []
    try:
        matches = match_matrices(teacher, student, layers=layers, roles=[role])
    except ParaknowError as error:
        return RoleReport(role, theirs, mine, 0, "skipped", str(error)), []
    theirs = tuple(dict.fromkeys(match.teacher.shape for match in matches))
    if _width(matches, words):
        return RoleReport(role, theirs, mine, 0, "blocked", "larger in the student"), matches
    return RoleReport(role, theirs, mine, len(matches), "cut", _how(matches)), matches


def _problems(check: Callable[[], object]) -> list[Problem]:
    try:
        check()
    except ParaknowError as error:
        return [Problem("pair", str(error))]
    return []


def _width(matches: Sequence[Match], words: Vocabularies) -> list[Problem]:
    return _problems(partial(check_sizes, matches, by_token=not words.equal))


def _words(matches: Sequence[Match], words: Vocabularies, min_share: float) -> list[Problem]:
    """Refuse rows of tokenizers that have too little in common, as the run itself does."""
    moved = any(match.role in VOCABULARY_ROLES for match in matches)
    if words.tokens is None or not moved:
        return []
    return _problems(partial(check_share, words.tokens, least=min_share))


def _shapes(model: Architecture, role: Role) -> tuple[tuple[int, ...], ...]:
    if role not in model.roles:
        return ()
    places = [None] if role in VOCABULARY_ROLES else [*range(model.num_layers)]
    return tuple(dict.fromkeys(model.matrix(role, place).shape for place in places))


def _how(matches: Sequence[Match]) -> str:
    whole = all(match.teacher.shape == match.student.shape for match in matches)
    return "whole, nothing is cut off" if whole else "the most sensitive part of that shape"


def _rows(report: RoleReport, words: Vocabularies, min_share: float) -> RoleReport:
    """Say how rows, which are tokens, are matched, or that they are not."""
    if report.status != "cut":
        return report
    if words.tokens is not None:
        if words.shared < min_share or not words.tokens.matched:
            return replace(report, status="blocked", count=0, reason="the tokenizers differ")
        return replace(report, reason=f"{100 * words.shared:.1f} % of the rows, matched by token")
    if report.teacher_shapes == report.student_shapes:
        return report
    return replace(report, reason="row i stays token i, the most sensitive columns")


def _rank_limit(matches: Sequence[Match]) -> tuple[int, str]:
    if not matches:
        return 0, ""
    narrow = min(matches, key=lambda match: min(match.student.shape))
    return min(narrow.student.shape), narrow.student.name


def _rank_problem(rank: int, max_rank: int, narrowest: str) -> Problem:
    return Problem(
        "pair", f"Rank {rank} is above {max_rank}, the most that {narrowest} allows. Lower it."
    )
