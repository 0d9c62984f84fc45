"""What the teacher's tokens distinguish and the student's cannot, put where the student has room.

Rows of an embedding and of a head are tokens. With the mean row taken off, the columns of the
student's matrix, W̃, span all that its tokens can differ by; what of the teacher's, T̃, lies outside
that span is *novel*:

    N = T̃ − W̃ (W̃ᵀW̃)⁺ W̃ᵀ T̃,    N ≈ U Σ Vᵀ

The mean rows are left out because a head that adds the same to every token's logit changes no
probability: what is the same for all tokens is no difference.

The start point is ``B = U Σ``, one direction of token space a column, and ``A`` = the student's
least right singular vectors: the directions of its hidden state that W̃ uses least. It needs no
sensitivity and no window, and nothing of the size vocabulary × vocabulary is formed.

Shapes: V, P = rows of the student's matrix and those with a partner; S, T = hidden sizes of student
and teacher; R = rank.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paraknow_core.errors import NumericsError, RankError, ShapeError
from paraknow_core.initialisation.controls import SvdFactors, random_orthonormal
from paraknow_core.registry import Registry
from paraknow_core.seeding import derived_seed
from paraknow_core.svd.truncated import Svd, truncated_svd

_BLOCK_ELEMENTS = 2**21  # copied to float64 at once: 16 MiB

# Eigenvalues of W̃ᵀW̃ below this share of the largest are no directions of W̃: a singular value of
# 1e-6 of the largest is about what rounding W to float32 leaves behind.
_LEAST_EIGENVALUE = 1e-12

# Of T̃'s squared norm, what must be novel. A teacher whose rows the student can express exactly
# leaves the rounding of its dtype: 1e-14 in float32, 1e-5 in bfloat16.
_LEAST_SHARE = 1e-4

# Singular values of N below this share of the first one are rounding.
_LEAST_VALUE = 1e-5


@dataclass(frozen=True)
class TokenRows:
    """Rows of teacher and student that stand for the same tokens, read a block at a time.

    Attributes:
        teacher_VT: the teacher's matrix, any float dtype; may be a view of a mapped file.
        student_VS: the student's.
        teachers_P: the teacher's row number of each matched token.
        students_P: the student's.
        mean_T: the teacher's mean row over the matched tokens, float64.
        mean_S: the student's.
    """

    teacher_VT: Tensor  # noqa: N815 - shape suffixes
    student_VS: Tensor  # noqa: N815
    teachers_P: Tensor  # noqa: N815
    students_P: Tensor  # noqa: N815
    mean_T: Tensor  # noqa: N815
    mean_S: Tensor  # noqa: N815

    def __len__(self) -> int:
        """P."""
        return len(self.students_P)

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through the tokens: the centred rows of teacher and student, in float64."""
        widest = max(self.teacher_VT.shape[1], self.student_VS.shape[1])
        size = max(16, _BLOCK_ELEMENTS // widest)
        for ours, theirs in zip(
            torch.split(self.students_P, size), torch.split(self.teachers_P, size), strict=True
        ):
            yield (
                self.teacher_VT[theirs].double() - self.mean_T,
                self.student_VS[ours].double() - self.mean_S,
            )


def token_rows(
    teacher_VT: Tensor, student_VS: Tensor, tokens: Sequence[int], *, shuffle: int | None = None
) -> TokenRows:
    """Pair the rows of two matrices that stand for the same tokens.

    Args:
        teacher_VT: the teacher's matrix, any float dtype.
        student_VS: the student's.
        tokens: for each row of the student the teacher's row, −1 where there is none (a token
            without a partner, or padding of the vocabulary); see ``alignment.tokens``.
        shuffle: a seed; every matched token gets another's row of the teacher. It is a control:
            the teacher's values and spectrum stay, what they say of which token goes.

    Raises:
        ShapeError: if a row is asked for that is not there, or no token is matched.
    """
    partner_V = torch.tensor(tuple(tokens), dtype=torch.long)
    students_P = (partner_V >= 0).nonzero().flatten()
    teachers_P = partner_V[students_P]
    if not len(students_P):
        raise ShapeError("No token of the student is a token of the teacher's: no row is matched.")
    most = (int(teachers_P.max()), int(students_P.max()))
    if most[0] >= teacher_VT.shape[0] or most[1] >= student_VS.shape[0]:
        raise ShapeError(
            f"Row {most[0]} of the teacher and row {most[1]} of the student are asked for, but "
            f"the matrices have {teacher_VT.shape[0]} and {student_VS.shape[0]} rows."
        )
    if shuffle is not None:
        source = torch.Generator().manual_seed(derived_seed(shuffle, "novel rows"))
        teachers_P = teachers_P[torch.randperm(len(teachers_P), generator=source)]
    none = (torch.zeros(m.shape[1], dtype=torch.float64) for m in (teacher_VT, student_VS))
    rows = TokenRows(teacher_VT, student_VS, teachers_P, students_P, *none)
    sums = [(theirs.sum(0), ours.sum(0)) for theirs, ours in rows.blocks()]
    means = (torch.stack(parts).sum(0) / len(rows) for parts in zip(*sums, strict=True))
    return TokenRows(teacher_VT, student_VS, teachers_P, students_P, *means)


@dataclass(frozen=True)
class _StudentSpan:
    """What the student's matrix W̃ can express.

    ``inverse_SS`` is (W̃ᵀW̃)⁺, ``least_SS`` W̃'s right singular vectors as rows, the least first.
    """

    inverse_SS: Tensor  # noqa: N815
    least_SS: Tensor  # noqa: N815
    rank: int


def _student_span(rows: TokenRows) -> _StudentSpan:
    size = rows.student_VS.shape[1]
    gram_SS = torch.zeros(size, size, dtype=torch.float64)
    for _theirs, ours in rows.blocks():
        gram_SS.addmm_(ours.T, ours)
    values_S, vectors_SS = torch.linalg.eigh(gram_SS)  # rising: the least direction first
    kept_S = values_S > _LEAST_EIGENVALUE * values_S[-1]
    inverse_S = torch.where(kept_S, 1 / values_S.where(kept_S, torch.ones_like(values_S)), 0.0)
    inverse_SS = (vectors_SS * inverse_S) @ vectors_SS.T
    return _StudentSpan(inverse_SS, _canonical(vectors_SS.T), int(kept_S.sum()))


def _canonical(vectors_SS: Tensor) -> Tensor:
    """Turn each row so that its largest entry is positive: a vector's sign has no meaning."""
    largest_S1 = vectors_SS.gather(1, vectors_SS.abs().argmax(1, keepdim=True))
    return vectors_SS * torch.where(largest_S1 < 0, -1.0, 1.0)


def _outside(rows: TokenRows, span: _StudentSpan) -> tuple[Tensor, float, float]:
    """Take the student's span off the teacher's rows.

    Projecting twice keeps the result orthogonal to W̃ to rounding, even where W̃ᵀW̃ is badly
    conditioned, as it is for trained models ("twice is enough", Parlett, The Symmetric Eigenvalue
    Problem, §6.9).

    Returns:
        N (P×T, float32), and the squared norms of T̃ and N.
    """
    shape = rows.student_VS.shape[1], rows.teacher_VT.shape[1]
    taken_ST = torch.zeros(shape, dtype=torch.float64)
    for _pass in range(2):
        left_ST = torch.zeros_like(taken_ST)
        for theirs, ours in rows.blocks():
            left_ST.addmm_(ours.T, theirs - ours @ taken_ST)
        taken_ST += span.inverse_SS @ left_ST
    novel_PT = torch.empty(len(rows), shape[1], dtype=torch.float32)
    whole, novel, done = 0.0, 0.0, 0
    for theirs, ours in rows.blocks():
        outside = theirs - ours @ taken_ST
        novel_PT[done : done + len(theirs)] = outside.float()
        done += len(theirs)
        whole += float(theirs.square().sum())
        novel += float(outside.square().sum())
    return novel_PT, whole, novel


def _top(rows: TokenRows) -> Tensor:
    """The teacher's centred rows as they are, whether the student can express them or not."""
    return torch.cat([theirs.float() for theirs, _ours in rows.blocks()])


def _novel_vectors(found: Svd, _rows: TokenRows, _seed: int) -> Tensor:
    return found.u_MR


def _top_vectors(found: Svd, rows: TokenRows, _seed: int) -> Tensor:
    return truncated_svd(_top(rows), rank=len(found.s_R)).u_MR


def _random_vectors(found: Svd, _rows: TokenRows, seed: int) -> Tensor:
    source = torch.Generator().manual_seed(derived_seed(seed, "novel directions"))
    return random_orthonormal(found.u_MR, source)


DIRECTIONS = Registry(
    "directions",
    {"novel": _novel_vectors, "top": _top_vectors, "random": _random_vectors},
)
"""Which directions of token space are taken, all with the novel ones' singular values.

``novel`` is the method. ``top`` (the teacher's leading directions, whether the student has them or
not) and ``random`` (none of the teacher's) are its controls.
"""


@dataclass(frozen=True)
class NovelTokens:
    """Directions of token space for one matrix.

    Attributes:
        factors: ``u_MR · diag(s_R) · vh_RN``, float32, with M = V and N = S: directions of token
            space, their sizes, and the student's least right singular vectors, the least first.
        share: of the teacher's centred rows' squared norm that is novel, 0..1.
        energy: of N's squared norm that the R directions hold, 0..1.
        certificate: of N's decomposition, plain JSON.
    """

    factors: SvdFactors
    share: float
    energy: float
    certificate: dict[str, Any]


def novel_tokens(
    rows: TokenRows, *, rank: int, directions: str = "novel", scale: float = 1.0, seed: int = 0
) -> NovelTokens:
    """Find what the teacher's tokens distinguish and the student's cannot.

    Args:
        rows: of the two matrices, as ``token_rows`` pairs them.
        rank: R at most; fewer directions are returned where N has fewer.
        directions: a key of ``DIRECTIONS``.
        scale: what the singular values are multiplied by, above 0.
        seed: of random directions.

    Returns:
        The directions; rows of U are zero for tokens without a partner.

    Raises:
        RankError: if the rank is not in 1..S: A has no more rows than the student is wide.
        NumericsError: if nothing is novel, or a matrix holds NaN or infinity.
        ConfigError: if there are no such directions.
    """
    choose = DIRECTIONS.choose(directions)
    width = rows.student_VS.shape[1]
    if not 1 <= rank <= width:
        raise RankError(
            f"Rank {rank} was asked for, but the student's matrix is {width} wide and allows "
            f"1..{width}. Lower the rank."
        )
    span = _student_span(rows)
    novel_PT, whole, novel = _outside(rows, span)
    _check_novelty(rows, span, whole, novel)
    found = truncated_svd(novel_PT, rank=min(rank, *novel_PT.shape))
    count = int((found.s_R > _LEAST_VALUE * found.s_R[0]).sum())
    u_VR = torch.zeros(rows.student_VS.shape[0], count)
    u_VR[rows.students_P] = choose(found, rows, seed)[:, :count]
    factors = SvdFactors(
        u_VR, scale * found.s_R[:count], span.least_SS[:count].float().contiguous()
    )
    return NovelTokens(factors, novel / whole, found.energy, found.certificate)


def _check_novelty(rows: TokenRows, span: _StudentSpan, whole: float, novel: float) -> None:
    if not whole > 0 or not novel >= 0:  # also where a sum is NaN
        raise NumericsError(
            "The teacher's rows of the matched tokens are all the same, or hold NaN or infinity: "
            "they distinguish no tokens. Check the teacher's files."
        )
    if span.rank >= len(rows) - 1:  # one direction is lost with the mean row
        raise NumericsError(
            f"Nothing can be novel: the student tells {span.rank} directions apart with "
            f"{len(rows)} tokens, so it can express whatever a teacher says of them. This method "
            "needs more tokens than the student is wide."
        )
    if novel <= _LEAST_SHARE * whole:
        raise NumericsError(
            f"Of what the teacher's tokens differ by, {novel / whole:.1e} is novel to the student: "
            "nothing but rounding. The teacher's matrix is one that the student can express, as "
            "its own is."
        )
