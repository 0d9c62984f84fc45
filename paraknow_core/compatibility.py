"""What would be cut out of a teacher for a student, what not and why, before anything runs.

Looks at architectures and vocabularies alone. Needs no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from paraknow_core.architecture import MATRIX_ROLES, Architecture, Role
from paraknow_core.errors import ParaknowError
from paraknow_core.extraction import check_vocabularies
from paraknow_core.pairing import VOCABULARY_ROLES, Match, check_cuts, match_matrices


@dataclass(frozen=True)
class RoleReport:
    """What happens with the matrices of one role.

    Attributes:
        role: its name.
        teacher_shapes, student_shapes: every shape of it, most often one; empty if there is none.
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
        shared: share of the student's tokens whose text the teacher has too, 0..1.
        same_row: share of them that have the same number there, 0..1.
    """

    equal: bool
    teacher_tokens: int
    student_tokens: int
    shared: float
    same_row: float


@dataclass(frozen=True)
class Compatibility:
    """Whether and how a student can take from a teacher.

    Attributes:
        roles: one report for each role that one of the two has.
        matches: what would be cut; empty where the depth does not allow any.
        problems: each alone is enough to stop a run.
        max_rank: the greatest rank that every matrix allows; 0 if nothing is cut.
        narrowest: name of the student's matrix that sets it.
    """

    roles: tuple[RoleReport, ...]
    matches: tuple[Match, ...]
    problems: tuple[Problem, ...]
    max_rank: int
    narrowest: str


def compare_vocabularies(teacher: Mapping[str, int], student: Mapping[str, int]) -> Vocabularies:
    """Compare two vocabularies, token text → number.

    Args:
        teacher: of its tokenizer, added tokens included.
        student: the same.
    """
    shared = [token for token in student if token in teacher]
    same = sum(student[token] == teacher[token] for token in shared)
    size = max(len(student), 1)
    return Vocabularies(
        equal=dict(teacher) == dict(student),
        teacher_tokens=len(teacher),
        student_tokens=len(student),
        shared=len(shared) / size,
        same_row=same / size,
    )


def compare_models(
    teacher: Architecture,
    student: Architecture,
    vocabularies: Vocabularies,
    *,
    roles: Sequence[str],
    rank: int,
) -> Compatibility:
    """Find what would be cut for which role, and everything that stops a run.

    Args:
        teacher: the larger model.
        student: the smaller one.
        vocabularies: as ``compare_vocabularies`` gives it.
        roles: kinds of matrix to transfer.
        rank: of the adapter.

    Raises:
        ConfigError: if a role is unknown, or the student has none of the roles.
    """
    layers = range(min(teacher.num_layers, student.num_layers))
    match_matrices(student, student, layers=layers, roles=roles)  # refuses unknown roles
    reports, cut, all_found = [], [], []
    for role in MATRIX_ROLES:
        if role in teacher.roles or role in student.roles:
            report, matches = _role(teacher, student, role, layers, roles)
            all_found += matches
            if role in VOCABULARY_ROLES:
                report = _rows(report, vocabularies)
            reports.append(report)
            cut += matches if report.status == "cut" else []
    max_rank, narrowest = _rank_limit(cut)
    problems = [*_depth(teacher, student), *_width(all_found), *_words(all_found, vocabularies)]
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
    wanted: Sequence[str],
) -> tuple[RoleReport, list[Match]]:
    """Report one role: its shapes, and how or why not it is cut."""
    theirs, mine = _shapes(teacher, role), _shapes(student, role)
    why = _why_skipped(teacher, student, role, wanted)
    if why:
        return RoleReport(role, theirs, mine, 0, "skipped", why), []
    try:
        matches = match_matrices(teacher, student, layers=layers, roles=[role])
    except ParaknowError as error:
        return RoleReport(role, theirs, mine, 0, "skipped", str(error)), []
    theirs = tuple(dict.fromkeys(match.teacher.shape for match in matches))
    if _width(matches):
        return RoleReport(role, theirs, mine, 0, "blocked", "larger in the student"), matches
    return RoleReport(role, theirs, mine, len(matches), "cut", _how(matches)), matches


def _width(matches: Sequence[Match]) -> list[Problem]:
    try:
        check_cuts(matches)
    except ParaknowError as error:
        return [Problem("pair", str(error))]
    return []


def _words(matches: Sequence[Match], words: Vocabularies) -> list[Problem]:
    """Refuse rows that would land on other tokens, by the rule that the run itself follows."""
    teacher = {"size": words.teacher_tokens, "vocabulary": "the teacher's"}
    mine = "the teacher's" if words.equal else "the student's"
    student = {"size": words.student_tokens, "vocabulary": mine}
    try:
        check_vocabularies(teacher, student, roles=[str(match.role) for match in matches])
    except ParaknowError as error:
        return [Problem("pair", str(error))]
    return []


def _shapes(model: Architecture, role: Role) -> tuple[tuple[int, ...], ...]:
    if role not in model.roles:
        return ()
    places = [None] if role in VOCABULARY_ROLES else [*range(model.num_layers)]
    return tuple(dict.fromkeys(model.matrix(role, place).shape for place in places))


def _why_skipped(
    teacher: Architecture, student: Architecture, role: Role, wanted: Sequence[str]
) -> str:
    if str(role) not in wanted:
        return "not among the wanted roles"
    if role is Role.HEAD and student.tied:
        return "tied to the student's embedding, which carries it"
    if role not in student.roles:
        return f"the student ({student.model_type}) has no such matrix"
    # A tied teacher's head is its embedding, for a student that has a head of its own.
    source = Role.EMBED if role is Role.HEAD and teacher.tied else role
    if source not in teacher.roles:
        return f"the teacher ({teacher.model_type}) has no such matrix"
    return ""


def _how(matches: Sequence[Match]) -> str:
    whole = all(match.teacher.shape == match.student.shape for match in matches)
    return "whole, nothing is cut off" if whole else "the most sensitive part of that shape"


def _rows(report: RoleReport, words: Vocabularies) -> RoleReport:
    """Say how rows, which are tokens, are matched, or that they are not."""
    if report.status != "cut":
        return report
    if not words.equal:
        return replace(report, status="blocked", count=0, reason="the tokenizers differ")
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
