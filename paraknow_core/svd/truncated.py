"""The best low-rank approximation of a matrix, with a certificate of its error.

Shape suffixes: M, N = rows and columns as given; P, Q = the same with P ≥ Q, transposed if need be;
K = vectors of a trial subspace; R = rank.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from paraknow_core.errors import ConfigError, NumericsError, RankError, ShapeError
from paraknow_core.svd.blas_threads import linalg
from paraknow_core.svd.certificate import Certificate, Triplets, certify
from paraknow_core.svd.lanczos import krylov_bases
from paraknow_core.svd.limits import (
    COPIED_ELEMENTS,
    GRAM_BELOW,
    PADDING,
    largest_krylov_rank,
    largest_subspace_rank,
    takes_krylov,
    takes_subspace,
)
from paraknow_core.svd.products import gram_matrix, squared_norm, times
from paraknow_core.svd.subspace import leading_eigenvectors


@dataclass(frozen=True)
class Svd:
    """``u_MR · diag(s_R) · vh_RN``: float32, contiguous, on the device of the weight.

    The largest entry of each row of ``vh_RN`` is positive. ``energy`` is the share of the squared
    Frobenius norm that is kept (0..1; 1 for a zero matrix). ``certificate`` is plain JSON.
    """

    u_MR: Tensor  # noqa: N815 - shape suffixes
    s_R: Tensor  # noqa: N815
    vh_RN: Tensor  # noqa: N815
    energy: float
    certificate: dict[str, Any]

    @property
    def residual(self) -> float:
        """The larger of ``‖A v − σ u‖`` and ``‖Aᵀ u − σ v‖`` over all triplets, over σ₁."""
        return float(max(self.certificate["residual_right"], self.certificate["residual_left"]))


def truncated_svd(weight_MN: Tensor, *, rank: int, driver: str = "auto") -> Svd:
    """Compute the leading singular triplets: SeeKing (arXiv 2310.11451) §3, with a certificate.

    Args:
        weight_MN: any float dtype, layout and device; float16 and bfloat16 are computed in float32.
        rank: R, in 1..min(M, N).
        driver: ``gram`` (float64 eigenvectors of AᵀA), ``krylov`` (block Lanczos in float32, then
            a projection in float64), ``full`` (LAPACK's whole SVD in float64), ``subspace``
            (Chebyshev-filtered iteration on AᵀA in float64, for GPUs), or ``auto``: gram below
            1,000 on the smaller side and for a large rank, else krylov, or subspace on a GPU, and
            gram if their certificate does not hold.

    Returns:
        The factors; their product is within 1e-5 (relative, Frobenius) of the best one of rank R.

    Raises:
        RankError: if ``rank`` is outside 1..min(M, N).
        ShapeError: if the weight is not a matrix.
        ConfigError: if there is no such driver.
        NumericsError: if the weight holds NaN or infinity, or the certificate does not hold.
    """
    _check(weight_MN, rank, driver)
    tall = weight_MN.shape[0] >= weight_MN.shape[1]
    matrix_PQ = weight_MN.detach() if tall else weight_MN.detach().T
    if _is_small(matrix_PQ):
        matrix_PQ = matrix_PQ.double()  # once, and not in each of the four passes over it
    elif matrix_PQ.dtype not in (torch.float32, torch.float64):
        matrix_PQ = matrix_PQ.float()
    norm = squared_norm(matrix_PQ)
    if not math.isfinite(norm):
        raise NumericsError(
            f"The matrix of shape {tuple(weight_MN.shape)} holds NaN or infinity: it has no SVD. "
            "Check the checkpoint it comes from."
        )
    triplets, certificate = _certified(matrix_PQ, rank, driver)
    return _canonical(triplets, transposed=not tall, norm=norm, certificate=certificate.to_json())


def _check(weight_MN: Tensor, rank: int, driver: str) -> None:
    if weight_MN.dim() != 2 or not weight_MN.is_floating_point():
        raise ShapeError(
            f"A tensor of shape {tuple(weight_MN.shape)} and {weight_MN.dtype} has no SVD. "
            "Pass a weight matrix of two dimensions and a float dtype."
        )
    if not 1 <= rank <= min(weight_MN.shape):
        raise RankError(
            f"Rank {rank} is outside 1..{min(weight_MN.shape)} of a matrix of shape "
            f"{tuple(weight_MN.shape)}. Choose a rank up to its smaller side."
        )
    if driver not in ("auto", *_DRIVERS):
        raise ConfigError(
            f"There is no SVD driver {driver!r}; there are auto, {', '.join(_DRIVERS)}."
        )


def _certified(matrix_PQ: Tensor, rank: int, driver: str) -> tuple[Triplets, Certificate]:
    """Compute and certify; if ``auto`` chose krylov and its certificate fails, repeat with gram."""
    name, reason = (driver, "asked for") if driver != "auto" else _choose(matrix_PQ, rank)
    triplets, certificate = _attempt(matrix_PQ, rank, name, reason)
    if certificate.failure and driver == "auto" and name != "gram":
        triplets, certificate = _attempt(matrix_PQ, rank, "gram", certificate.failure)
        certificate = replace(certificate, fell_back=True)
    if certificate.failure:
        raise NumericsError(
            f"The SVD of rank {rank} by {name!r} does not hold: {certificate.failure}. "
            "Use the driver 'gram' or 'full', or check the matrix for values out of proportion."
        )
    return triplets, certificate


def _is_small(matrix_PQ: Tensor) -> bool:
    return matrix_PQ.shape[1] < GRAM_BELOW and matrix_PQ.numel() <= COPIED_ELEMENTS


def _choose(matrix_PQ: Tensor, rank: int) -> tuple[str, str]:
    size = matrix_PQ.shape[1]
    if size < GRAM_BELOW:
        return "gram", f"smaller side {size} is below {GRAM_BELOW}"
    if matrix_PQ.is_cuda:
        return ("subspace" if takes_subspace(size, rank) else "gram"), "on a GPU"
    if not takes_krylov(size, rank):
        return "gram", f"rank {rank} is large for a smaller side of {size}"
    if not _fits_float32(matrix_PQ):
        return "gram", "products of its values are too large for float32"
    return "krylov", f"smaller side {size} is at least {GRAM_BELOW}"


def _fits_float32(matrix_PQ: Tensor) -> bool:
    """Tell whether the entries of ``AᵀA``, and sums of them, stay in float32's range."""
    lowest, highest = (float(end) for end in torch.aminmax(matrix_PQ))
    return matrix_PQ.numel() * max(-lowest, highest) ** 2 < torch.finfo(torch.float32).max


def _attempt(matrix_PQ: Tensor, rank: int, name: str, reason: str) -> tuple[Triplets, Certificate]:
    """Return the first of a driver's results whose certificate has no failure, else the last."""
    for trial_QK, problem in _DRIVERS[name](matrix_PQ, rank):
        triplets = _project(matrix_PQ, trial_QK)
        certificate = certify(
            matrix_PQ,
            triplets,
            rank=rank,
            driver=name,
            reason=reason,
            direct=name not in _ITERATIVE,
        )
        certificate = replace(certificate, failure=problem or certificate.failure)
        if not certificate.failure:
            break
    return triplets.leading(rank), certificate


def _project(matrix_PQ: Tensor, trial_QK: Tensor) -> Triplets:
    """The best triplets whose right vectors lie in a trial subspace (Rayleigh-Ritz), in float64."""
    left_PK, small_KK = torch.linalg.qr(times(matrix_PQ, trial_QK))
    u_KK, s_K, vh_KK = torch.linalg.svd(small_KK)
    return Triplets(left_PK @ u_KK, s_K, trial_QK @ vh_KK.T)


def _krylov(matrix_PQ: Tensor, rank: int) -> Iterator[tuple[Tensor, str]]:
    size = matrix_PQ.shape[1]
    if rank > largest_krylov_rank(size):
        raise RankError(
            f"Rank {rank} is too large for the driver 'krylov' on a smaller side of {size}: it "
            f"takes at most {largest_krylov_rank(size)}. Use the driver 'gram'."
        )
    if not _fits_float32(matrix_PQ):
        raise NumericsError(
            "The driver 'krylov' computes in float32, and products of this matrix's values are too "
            "large for it. Use the driver 'gram', or check the matrix for values out of proportion."
        )
    for basis in krylov_bases(matrix_PQ, rank=rank, keep=rank + PADDING):
        problem = "" if basis.converged else f"no convergence within {basis.passes} passes"
        yield basis.vectors_QK, problem


def _gram(matrix_PQ: Tensor, rank: int) -> Iterator[tuple[Tensor, str]]:
    gram_QQ = gram_matrix(matrix_PQ)
    size = gram_QQ.shape[0]
    keep = min(rank + 1, size)
    if gram_QQ.is_cuda:
        yield torch.linalg.eigh(gram_QQ).eigenvectors[:, -keep:].flip(1), ""
        return
    vectors = linalg().eigh(
        gram_QQ.numpy(),
        subset_by_index=(size - keep, size - 1),
        overwrite_a=True,
        check_finite=False,  # entries are at most the squared norm, which was checked to be finite
    )[1]
    yield torch.from_numpy(vectors).flip(1), ""


def _subspace(matrix_PQ: Tensor, rank: int) -> Iterator[tuple[Tensor, str]]:
    size = matrix_PQ.shape[1]
    if rank > largest_subspace_rank(size):
        raise RankError(
            f"Rank {rank} is too large for the driver 'subspace' on a smaller side of {size}: it "
            f"takes at most {largest_subspace_rank(size)}. Use the driver 'gram'."
        )
    gram_QQ = gram_matrix(matrix_PQ).tril()
    gram_QQ += gram_QQ.tril(-1).T
    # One more than the rank has to be right: the certificate tells the gap by it.
    yield leading_eigenvectors(gram_QQ, rank=rank + 1, keep=rank + PADDING)


def _full(matrix_PQ: Tensor, rank: int) -> Iterator[tuple[Tensor, str]]:
    vh_QQ = torch.linalg.svd(matrix_PQ.double(), full_matrices=False).Vh
    yield vh_QQ[: rank + 1].T, ""


_DRIVERS: Mapping[str, Callable[[Tensor, int], Iterator[tuple[Tensor, str]]]] = MappingProxyType(
    {"gram": _gram, "krylov": _krylov, "full": _full, "subspace": _subspace}
)
"""Each yields orthonormal float64 vectors that span the leading right singular subspace, and a
description of what is wrong with them ('' if nothing is).

A driver that yields more than once yields better vectors each time.
"""
_ITERATIVE = ("krylov", "subspace")
"""Drivers that could miss a singular value."""


def _canonical(
    triplets: Triplets, *, transposed: bool, norm: float, certificate: dict[str, Any]
) -> Svd:
    """Cast to float32, undo the transposition, and fix the signs.

    Singular vectors are unique only up to their sign, and drivers and thread counts give different
    ones: the largest entry of each row of Vh is made positive.
    """
    u, v = (triplets.v, triplets.u) if transposed else (triplets.u, triplets.v)
    vh_RN = v.T.float().contiguous()
    largest_R1 = vh_RN.gather(1, vh_RN.abs().argmax(1, keepdim=True))
    signs_R = torch.where(largest_R1 < 0, -1.0, 1.0)
    s_R = triplets.s.float()
    energy = min(1.0, float(triplets.s.square().sum()) / norm) if norm else 1.0
    u_MR = (u.float() * signs_R.T).contiguous()
    return Svd(u_MR, s_R, vh_RN * signs_R, energy, certificate)
