"""How far a truncated SVD can be trusted: residuals, what was left out, and the error they allow.

Shape suffixes: P, Q = rows and columns, P ≥ Q; R = rank.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from paraknow_core.svd.products import row_blocks

LIMIT = 1e-5
"""Largest residual over σ₁, and largest estimated error of the product, that is accepted."""

_LANCZOS_STEPS = 24  # 0.2 to 0.3 seconds at 4096²
_EXHAUSTED = 1e-6  # a shorter vector, relative to the projection, is float32 rounding (1.2e-7) only
_SEED = 1009  # not that of ``lanczos``: the check must not start where the computation did


@dataclass(frozen=True)
class Triplets:
    """Singular triplets in float64: ``u`` P×K, ``s`` K descending, ``v`` Q×K."""

    u: Tensor
    s: Tensor
    v: Tensor

    def leading(self, rank: int) -> "Triplets":
        """The first ``rank`` of them."""
        return Triplets(self.u[:, :rank], self.s[:rank], self.v[:, :rank])


@dataclass(frozen=True)
class Certificate:
    """What is known of the leading R triplets; ``failure`` is empty if every check passed.

    Attributes:
        residual_right: ``max ‖A v − σ u‖ / σ₁``.
        residual_left: ``max ‖Aᵀ u − σ v‖ / σ₁``.
        sigma_next: singular value number R + 1; 0 if there is none.
        gap: ``1 − σ_next / σ_r``; with 0 the best product is not unique.
        deflated_sigma: largest singular value of A minus the triplets' product; for a direct
            driver, which cannot miss one, simply ``sigma_next``.
        product_error: estimate of ``‖P − P_best‖ / ‖P_best‖``; None where the gap is too small.
    """

    driver: str
    reason: str
    residual_right: float
    residual_left: float
    sigma_first: float
    sigma_r: float
    sigma_next: float
    gap: float
    deflated_sigma: float
    product_error: float | None
    fell_back: bool = False
    failure: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields but ``failure``, as plain JSON."""
        return {key: value for key, value in asdict(self).items() if key != "failure"}


def certify(
    matrix_PQ: Tensor, triplets: Triplets, *, rank: int, driver: str, reason: str, direct: bool
) -> Certificate:
    """Check the first ``rank`` of K triplets against the matrix itself.

    Args:
        matrix_PQ: float32 or float64, P ≥ Q.
        triplets: the R to check, and further ones, which show the gap after the first R.
        rank: R.
        driver: name of the driver that computed them.
        reason: why this driver was chosen.
        direct: whether the driver is a direct method, which cannot miss a singular value.
    """
    kept = triplets.leading(rank)
    sigmas = triplets.s.tolist()
    first, last, following = (
        sigmas[0],
        sigmas[rank - 1],
        sigmas[rank] if rank < len(sigmas) else 0.0,
    )
    right, left = residuals(matrix_PQ, kept)
    scale = first or 1.0  # the residuals of a zero matrix are 0
    certificate = Certificate(
        driver=driver,
        reason=reason,
        residual_right=max(right) / scale,
        residual_left=max(left) / scale,
        sigma_first=first,
        sigma_r=last,
        sigma_next=following,
        gap=1 - following / last if last else 0.0,
        deflated_sigma=following if direct else deflated_sigma(matrix_PQ, kept),
        product_error=_product_error(sigmas, left),
    )
    return replace(certificate, failure=_failure(certificate, direct=direct))


def _failure(found: Certificate, *, direct: bool) -> str:
    """Describe the first check that fails; '' if none does."""
    residual = max(found.residual_right, found.residual_left)
    if not residual <= LIMIT:
        return f"a residual of {residual:.1e}·σ₁ is above {LIMIT:.0e}"
    # The deflated products carry float32 rounding, which the residual's own limit covers.
    if not found.deflated_sigma <= found.sigma_r + LIMIT * found.sigma_first:
        return f"σ = {found.deflated_sigma:.6g} was left out, above σ_r = {found.sigma_r:.6g}"
    if not direct and (found.product_error is None or found.product_error > LIMIT):
        return f"with a gap of {found.gap:.1e} the product's error is {found.product_error}"
    return ""


def _product_error(sigmas: list[float], residuals: list[float]) -> float | None:
    """Estimate the product's relative error from the R left residuals ``‖Aᵀ u − σ v‖``.

    A residual ρ tilts v out of the trial subspace by ``σ ρ / (σ² − σ_K²)``; inside it, where the
    projection is exact, the tilt of the last one is only that squared over the relative gap
    (Parlett, The Symmetric Eigenvalue Problem, §11.7). A tilt moves the product by its share of σ.
    """
    rank, end = len(residuals), sigmas[-1]
    last, following = sigmas[rank - 1], sigmas[min(rank, len(sigmas) - 1)]
    if rank == len(sigmas) or last == 0:
        return 0.0
    if following == last:
        return None
    kept = sigmas[:rank]
    tilts = [s * rest / (s**2 - end**2) for s, rest in zip(kept, residuals, strict=True)]
    inside = tilts[-1] ** 2 * (last**2 - end**2) / (last**2 - following**2)
    moved = math.hypot(*(s * tilt for s, tilt in zip(kept, tilts, strict=True)))
    return (moved + last * inside) / math.hypot(*kept)


def residuals(matrix_PQ: Tensor, triplets: Triplets) -> tuple[list[float], list[float]]:
    """``‖A v − σ u‖`` and ``‖Aᵀ u − σ v‖`` of every triplet, in float64."""
    left_QK = -triplets.v * triplets.s
    squares_K, start = torch.zeros_like(triplets.s), 0
    for block in row_blocks(matrix_PQ):
        rows, u_block = block.double(), triplets.u[start : start + block.shape[0]]
        squares_K += (rows @ triplets.v - u_block * triplets.s).square().sum(0)
        left_QK.addmm_(rows.T, u_block)
        start += block.shape[0]
    return squares_K.sqrt().tolist(), left_QK.norm(dim=0).tolist()


def deflated_sigma(matrix_PQ: Tensor, triplets: Triplets) -> float:
    """Estimate σ_max of ``A − U Σ Vᵀ`` from below by 24 Lanczos steps in float32.

    It starts from a random vector that the computation of the triplets did not use. An estimate
    above σ_R proves that a leading triplet was missed.
    """
    u, s, v = triplets.u.float(), triplets.s.float(), triplets.v.float()
    size = matrix_PQ.shape[1]
    steps = min(_LANCZOS_STEPS, size)
    generator = torch.Generator().manual_seed(_SEED)
    vector_Q = torch.randn(size, generator=generator).to(matrix_PQ.device)
    basis_KQ = torch.zeros((steps, size), device=matrix_PQ.device)
    projected_KK = torch.zeros((steps, steps), dtype=torch.float64)
    for step in range(steps):
        length = float(vector_Q.norm())
        if length <= _EXHAUSTED * float(projected_KK.abs().max()):
            break  # the rest is rounding: every vector that C does not send to 0 has been seen
        basis_KQ[step] = vector_Q / length
        vector_Q = _deflated_gram_times(matrix_PQ, basis_KQ[step], u, s, v)
        for _ in range(2):  # twice: after one pass, rounding leaves the vectors not orthogonal
            weights_K = basis_KQ[: step + 1] @ vector_Q
            projected_KK[step, : step + 1] += weights_K.double().cpu()
            vector_Q = vector_Q - weights_K @ basis_KQ[: step + 1]
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(projected_KK)[-1])))


def _deflated_gram_times(
    matrix_PQ: Tensor, vector_Q: Tensor, u_PK: Tensor, s_K: Tensor, v_QK: Tensor
) -> Tensor:
    """``CᵀC x`` for ``C = A − U Σ Vᵀ``, in one pass; C itself is never formed."""
    known_P = u_PK @ (s_K * (v_QK.T @ vector_Q))
    product_Q, overlap_K, start = torch.zeros_like(vector_Q), torch.zeros_like(s_K), 0
    for block in row_blocks(matrix_PQ):
        rows, inside = block.to(vector_Q.dtype), slice(start, start + block.shape[0])
        image = rows @ vector_Q - known_P[inside]
        product_Q.addmv_(rows.T, image)
        overlap_K.addmv_(u_PK[inside].T, image)
        start += block.shape[0]
    return product_Q - v_QK @ (s_K * overlap_K)
