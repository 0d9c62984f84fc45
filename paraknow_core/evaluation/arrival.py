"""What of a teacher's novel token directions a trained matrix has: is it there that it learnt?

Rows of an embedding and of a head are tokens. U holds orthonormal directions of token space that
the teacher has and the untouched student's columns cannot express
(``initialisation.novel_tokens``), so before training the student has none of them. Afterwards its
matrix is W' = W + ΔW:

- principal angles between the columns of W̃' (centred on its mean row) and of U say which of the
  directions the student can express now, however weakly (Björck and Golub, Mathematics of
  Computation 27, 1973, §4: their cosines are the singular values of QᵀU, Q an orthonormal basis of
  W̃'s columns);
- ‖UᵀΔW‖² / ‖ΔW‖² says how much of what was learnt lies in them;
- ‖UᵀW̃'‖² / ‖W̃'‖² says how much of the trained matrix does.

Shapes: V, P = rows of the matrix and those that U says something of; S = the student's hidden size;
R = directions; Q = rank of the adapter.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paraknow_core.errors import NumericsError, ShapeError

_BLOCK_ELEMENTS = 2**21  # copied to float64 at once: 16 MiB

# Eigenvalues of W̃'ᵀW̃' below this share of the largest are no directions: rounding of float32.
_LEAST_EIGENVALUE = 1e-12


@dataclass(frozen=True)
class Arrival:
    """How much of R directions of token space is in one trained matrix.

    Attributes:
        cosines: of the principal angles between the directions and the trained matrix's columns,
            0..1, the largest first; as many as there are directions.
        cosines_by_chance: the root of their mean square for columns that were drawn: √(S/(P − 1)).
        change_share: ‖UᵀΔW‖² / ‖ΔW‖², 0..1; None where nothing was changed.
        share_by_chance: R/(P − 1), what is expected of a change that was drawn.
        weight_share: ‖UᵀW̃'‖² / ‖W̃'‖², 0..1.
        change_ratio: ‖ΔW‖ / ‖W‖, Frobenius norms over all rows; None for a weight of zeros.
    """

    cosines: tuple[float, ...]
    cosines_by_chance: float
    change_share: float | None
    share_by_chance: float
    weight_share: float
    change_ratio: float | None


def arrival(weight_VS: Tensor, b_VQ: Tensor, a_QS: Tensor, directions_VR: Tensor) -> Arrival:
    """Measure what of some directions a matrix has after ``b_VQ @ a_QS`` was added to it.

    Nothing of the size V × V or of another V × S is formed.

    Args:
        weight_VS: the untouched matrix, any float dtype; may be a view of a mapped file.
        b_VQ: of the delivered adapter, its scale included.
        a_QS: the same.
        directions_VR: directions of token space; rows of tokens that they say nothing of are zero.

    Raises:
        ShapeError: if the shapes do not fit together, or there are not more tokens than directions.
        NumericsError: if a matrix holds NaN or infinity, or the trained one is the same for all
            tokens.
    """
    _check_shapes(weight_VS, b_VQ, a_QS, directions_VR)
    rows_P = (directions_VR != 0).any(1).nonzero().flatten()
    count, width = directions_VR.shape[1], weight_VS.shape[1]
    if len(rows_P) <= count + 1:
        raise ShapeError(
            f"{count} directions of {len(rows_P)} tokens: give fewer directions than tokens less "
            "one, as more hold everything."
        )
    b, a = b_VQ.double(), a_QS.double()
    basis_PR = torch.linalg.qr(directions_VR[rows_P].double())[0]
    gram_SS = torch.zeros(width, width, dtype=torch.float64)
    shared_SR = torch.zeros(width, count, dtype=torch.float64)
    for places, centred in _trained(weight_VS, b, a, rows_P):
        gram_SS.addmm_(centred.T, centred)
        shared_SR.addmm_(centred.T, basis_PR[places])
    whole = float(gram_SS.trace())
    if not math.isfinite(whole) or not bool(shared_SR.isfinite().all()) or whole <= 0:
        raise NumericsError(
            "The trained matrix or its directions hold NaN or infinity, or all tokens have the "
            "same row."
        )
    changed = float(((b.T @ b) * (a @ a.T)).sum())
    inside = float(((basis_PR.T @ b[rows_P]) @ a).square().sum())
    weight = math.sqrt(sum(float(w.double().square().sum()) for w in _blocks(weight_VS)))
    chance = 1 / (len(rows_P) - 1)
    return Arrival(
        cosines=_cosines(gram_SS, shared_SR),
        cosines_by_chance=min(1.0, math.sqrt(width * chance)),
        change_share=min(1.0, inside / changed) if changed > 0 else None,
        share_by_chance=count * chance,
        weight_share=min(1.0, float(shared_SR.square().sum()) / whole),
        change_ratio=math.sqrt(max(0.0, changed)) / weight if weight > 0 else None,
    )


def _cosines(gram_SS: Tensor, shared_SR: Tensor) -> tuple[float, ...]:
    """Singular values of QᵀU, with Q = W̃' times the inverse root of its Gram matrix."""
    values_S, vectors_SS = torch.linalg.eigh(gram_SS)
    kept_S = values_S > _LEAST_EIGENVALUE * values_S[-1]
    root_SK = vectors_SS[:, kept_S] * values_S[kept_S].rsqrt()
    found = torch.linalg.svdvals(root_SK.T @ shared_SR).clamp(max=1.0).tolist()
    return (*found, *[0.0] * (shared_SR.shape[1] - len(found)))


def _trained(
    weight_VS: Tensor, b_VQ: Tensor, a_QS: Tensor, rows_P: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Go through the trained rows, centred on their mean, in float64, with their places in P."""
    size = max(16, _BLOCK_ELEMENTS // weight_VS.shape[1])

    def each() -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, len(rows_P), size):
            rows = rows_P[start : start + size]
            yield slice(start, start + len(rows)), weight_VS[rows].double() + b_VQ[rows] @ a_QS

    mean_S = torch.stack([rows.sum(0) for _, rows in each()]).sum(0) / len(rows_P)
    for places, rows in each():
        yield places, rows - mean_S


def _blocks(weight_VS: Tensor) -> tuple[Tensor, ...]:
    return torch.split(weight_VS, max(16, _BLOCK_ELEMENTS // weight_VS.shape[1]))


def _check_shapes(weight_VS: Tensor, b_VQ: Tensor, a_QS: Tensor, directions_VR: Tensor) -> None:
    shapes = [tuple(t.shape) for t in (weight_VS, b_VQ, a_QS, directions_VR)]
    fits = all(len(shape) == 2 for shape in shapes) and (
        shapes[1][0] == shapes[0][0] == shapes[3][0]
        and shapes[2][1] == shapes[0][1]
        and shapes[1][1] == shapes[2][0]
        and shapes[3][1] > 0
    )
    if not fits:
        raise ShapeError(
            f"A matrix of {shapes[0]}, factors of {shapes[1]} and {shapes[2]} and directions of "
            f"{shapes[3]} do not belong together; they must be V×S, V×Q, Q×S and V×R."
        )
