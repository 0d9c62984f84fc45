"""Reduced-rank ridge regression from sums over positions: the solver that the signals share.

Wanted is the change ΔW of rank R of a layer's weight that brings its output nearest to a wanted
change E, given its inputs X, with λ against large changes:

    min ‖E − X ΔWᵀ‖² + λ‖ΔW‖²

With C = XᵀX + λI and the full solution ΔW = EᵀX C⁻¹ this is ‖(ΔW_R − ΔW) C^½‖² plus a constant, so
the best ΔW_R is the best rank R of EᵀX C^(−½) times C^(−½) (Izenman, J. Multivariate Analysis 5,
1975, §2, with a ridge). Only EᵀX and XᵀX are summed, in float64; no X or E is kept.

Shapes: T = positions, O, N = out_features and in_features, R = rank.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from paraknow_core.errors import NumericsError, ShapeError
from paraknow_core.lora.adapter import LoraFactors

# Of the largest: an eigenvalue of XᵀX below this share is none, nor is a singular value.
_LEAST = 1e-12


@dataclass
class CrossProducts:
    """Sums over positions, float64.

    Attributes:
        ex_ON: EᵀX.
        xx_NN: XᵀX.
        positions: how many were added.
    """

    ex_ON: Tensor  # noqa: N815 - shape suffixes
    xx_NN: Tensor  # noqa: N815
    positions: int = 0

    @classmethod
    def zeros(cls, rows: int, columns: int) -> Self:
        """Return empty sums for E of ``rows`` and X of ``columns`` numbers a position."""
        double = torch.float64
        return cls(
            torch.zeros(rows, columns, dtype=double), torch.zeros(columns, columns, dtype=double)
        )

    def add(self, e_TO: Tensor, x_TN: Tensor) -> None:
        """Add positions, of any float dtype and device.

        Raises:
            ShapeError: if E and X do not have the same positions, or other sizes than the sums.
        """
        if e_TO.shape[0] != x_TN.shape[0] or self.ex_ON.shape != (e_TO.shape[1], x_TN.shape[1]):
            raise ShapeError(
                f"E of {tuple(e_TO.shape)} and X of {tuple(x_TN.shape)} cannot be added to sums of "
                f"{tuple(self.ex_ON.shape)}; E is positions × outputs, X is positions × inputs."
            )
        e, x = (part.detach().to("cpu", torch.float64) for part in (e_TO, x_TN))
        self.ex_ON.addmm_(e.T, x)
        self.xx_NN.addmm_(x.T, x)
        self.positions += len(x)


def damping(xx_NN: Tensor, ridge: float) -> float:
    """λ: the ridge times the mean of XᵀX's diagonal, so that it has no unit."""
    return ridge * float(xx_NN.diagonal().mean())


def check_determined(xx_NN: Tensor, positions: int, ridge: float, *, what: str) -> None:
    """Refuse a fit that has more than one solution, or none.

    Args:
        xx_NN: XᵀX.
        positions: that were summed; the unknowns of each output are N.
        ridge: at least 0; any ridge above 0 makes the solution one.
        what: is fitted, for the message.

    Raises:
        NumericsError: if sums are not finite, X is zero, or the ridge is 0 where positions are
            fewer than unknowns, or depend on each other.
    """
    unknowns = xx_NN.shape[0]
    if not ridge >= 0:
        raise NumericsError(f"{what}: the ridge is {ridge}; it must be 0 or more.")
    if not bool(xx_NN.isfinite().all()) or not bool(xx_NN.diagonal().any()):
        raise NumericsError(f"{what}: the inputs are all zero, or hold NaN or infinity.")
    if ridge > 0:
        return
    values_N = torch.linalg.eigvalsh(xx_NN)
    if positions < unknowns or float(values_N[0]) <= _LEAST * float(values_N[-1]):
        raise NumericsError(
            f"{what}: {unknowns} unknowns for each output, but {positions} positions, or positions "
            "that depend on each other, and a ridge of 0: there is no one solution. Give a ridge "
            "above 0, or more texts."
        )


def ridge_map(
    xx_NN: Tensor, xe_NO: Tensor, *, positions: int, ridge: float, what: str = "map"
) -> Tensor:
    """Solve min ‖X M − E‖² + λ‖M‖² for a whole map.

    Args:
        xx_NN: XᵀX, float64.
        xe_NO: XᵀE, float64.
        positions: that were summed.
        ridge: λ over the mean of XᵀX's diagonal, at least 0.
        what: is fitted, for messages.

    Returns:
        M (N×O), float64.

    Raises:
        NumericsError: as ``check_determined``.
    """
    check_determined(xx_NN, positions, ridge, what=what)
    eye = torch.eye(len(xx_NN), dtype=torch.float64)
    found: Tensor = torch.linalg.solve(xx_NN + damping(xx_NN, ridge) * eye, xe_NO)
    return found


def reduced_rank(sums: CrossProducts, *, rank: int, ridge: float, what: str) -> LoraFactors:
    """Find the best change of a rank.

    Args:
        sums: over all positions.
        rank: R, at least 1.
        ridge: λ over the mean of XᵀX's diagonal, at least 0.
        what: is fitted, for messages.

    Returns:
        ``b`` = U_R Σ_R^½ (O×R) and ``a`` = Σ_R^½ V_Rᵀ C^(−½) (R×N), float64; ``b @ a`` is ΔW_R.
        Directions that EᵀX does not have are zero.

    Raises:
        NumericsError: as ``check_determined``, or if E is zero: there is nothing to write.
    """
    check_determined(sums.xx_NN, sums.positions, ridge, what=what)
    values_N, vectors_NN = torch.linalg.eigh(sums.xx_NN)
    seen_N = values_N.clamp(min=0) + damping(sums.xx_NN, ridge)
    root_NN = (vectors_NN * seen_N.rsqrt()) @ vectors_NN.T
    whitened_ON = sums.ex_ON @ root_NN
    if not bool(whitened_ON.isfinite().all()) or not bool(whitened_ON.any()):
        raise NumericsError(
            f"{what}: teacher and student do not differ here, or the wanted change holds NaN or "
            "infinity: there is nothing to write. A student in its own teacher's place gives this."
        )
    u_OR, s_R, vh_RN = _leading(whitened_ON, rank)
    return LoraFactors(a=s_R.sqrt()[:, None] * vh_RN @ root_NN, b=u_OR * s_R.sqrt())


def _leading(matrix_ON: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The leading singular triplets, by the smaller of the two Gram matrices.

    In float64 that loses only singular values below 1e-8 of the largest. Padded with zeros to the
    rank where the matrix has fewer.
    """
    rows, columns = matrix_ON.shape
    small = matrix_ON @ matrix_ON.T if rows <= columns else matrix_ON.T @ matrix_ON
    squares, vectors = torch.linalg.eigh(small)  # rising
    kept = min(rank, len(squares))
    squares, vectors = squares[-kept:].flip(0), vectors[:, -kept:].flip(1)
    s_R = squares.clamp(min=0).sqrt()
    there_R = squares > _LEAST * squares[0]
    s_R = torch.where(there_R, s_R, 0.0)
    inverse_R = torch.where(there_R, 1 / s_R.where(there_R, torch.ones_like(s_R)), 0.0)
    if rows <= columns:
        u_OR, vh_RN = vectors, inverse_R[:, None] * (vectors.T @ matrix_ON)
    else:
        u_OR, vh_RN = (matrix_ON @ vectors) * inverse_R, vectors.T
    missing = rank - kept
    return (
        torch.nn.functional.pad(u_OR, (0, missing)),
        torch.nn.functional.pad(s_R, (0, missing)),
        torch.nn.functional.pad(vh_RN, (0, 0, 0, missing)),
    )
