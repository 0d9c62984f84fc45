"""The leading eigenvectors of a symmetric matrix by products alone, as a GPU likes them.

Subspace iteration with a Chebyshev polynomial that is small on the unwanted eigenvalues (Zhou,
Saad, Tiago and Chelikowsky, "Self-consistent-field calculations using Chebyshev-filtered subspace
iteration", J. Comput. Phys. 219, 2006; its scaled recurrence). A GPU's eigensolvers are slow beside
its products, and this takes 30 to 50 products with 128 vectors.

Shape suffixes: Q = rows and columns; K = vectors; R = rank.
"""

import math

import torch
from torch import Tensor

from paraknow_core.svd.limits import BEYOND

_DEGREE = 12  # of the polynomial; with 8 or 20 flat spectra take up to twice the products
_GAIN = 1e8
"""How far the first eigenvector may grow over the last in a filter; with more, float64 has too few
digits left for those between."""
_TOLERANCE = 1e-9  # largest residual over λ₁
_ROUNDS = 60
_SEED = 3141


def leading_eigenvectors(matrix_QQ: Tensor, *, rank: int, keep: int) -> tuple[Tensor, str]:
    """Find ``keep`` Ritz vectors of which the first ``rank`` have converged.

    Args:
        matrix_QQ: float64, symmetric, with no negative eigenvalue, such as ``AᵀA``.
        rank: R.
        keep: K, in R..Q − BEYOND.

    Returns:
        Q × K float64, orthonormal, in order of falling eigenvalue, on the matrix's device; and what
        is wrong with them, '' if nothing is. The random start is fixed.
    """
    size = matrix_QQ.shape[0]
    generator = torch.Generator().manual_seed(_SEED)
    start_QK = torch.randn((size, rank + BEYOND), generator=generator, dtype=torch.float64)
    basis_QK = torch.linalg.qr(start_QK.to(matrix_QQ.device)).Q
    for _ in range(_ROUNDS):
        image_QK = matrix_QQ @ basis_QK
        # Small: LAPACK is quicker than a GPU's solver, and gives the same bits everywhere.
        values_K, ritz_KK = torch.linalg.eigh((basis_QK.T @ image_QK).cpu())
        values_K, ritz_KK = values_K.flip(0), ritz_KK.flip(1).to(basis_QK.device)
        basis_QK, image_QK = basis_QK @ ritz_KK, image_QK @ ritz_KK
        on_device_K = values_K.to(basis_QK.device)
        rests_R = (image_QK - basis_QK * on_device_K)[:, :rank].norm(dim=0)
        first, last = float(values_K[0]), float(values_K[-1])
        if float(rests_R.max()) <= _TOLERANCE * first:
            return basis_QK[:, :keep], ""
        filtered_QK = _filtered(matrix_QQ, basis_QK, image_QK, first, max(last, 0.0))
        basis_QK = torch.linalg.qr(filtered_QK).Q
    return basis_QK[:, :keep], f"no convergence within {_ROUNDS} rounds"


def _filtered(
    matrix_QQ: Tensor, basis_QK: Tensor, image_QK: Tensor, first: float, last: float
) -> Tensor:
    """Apply the polynomial that is at most 1 on 0..last, scaled to about 1 at ``first``."""
    centre = half = last / 2
    degree = _degree(first, last)
    if degree == 1:
        return image_QK - centre * basis_QK
    scale = start = half / (first - centre)
    before_QK, now_QK = basis_QK, (image_QK - centre * basis_QK) * (scale / half)
    for _ in range(degree - 1):
        following = 1 / (2 / start - scale)
        next_QK = torch.addmm(now_QK, matrix_QQ, now_QK, beta=-centre) * (2 * following / half)
        before_QK, now_QK = now_QK, next_QK.sub_(before_QK, alpha=scale * following)
        scale = following
    return now_QK


def _degree(first: float, last: float) -> int:
    """The largest degree up to ``_DEGREE`` whose polynomial grows to at most ``_GAIN``."""
    if last <= 0:
        return 1
    growth = math.acosh(max(2 * first / last - 1, 1.0))
    return max(1, min(_DEGREE, int(math.acosh(_GAIN) / growth))) if growth else _DEGREE
