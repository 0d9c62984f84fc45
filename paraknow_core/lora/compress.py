"""Smaller forms of a delivered adapter, each with what it loses, measured exactly.

Shapes: M = out_features, N = in_features, R = rank, K = min(M, R) or min(N, R).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paraknow_core.errors import ConfigError, RankError
from paraknow_core.lora.adapter import Adapter, LoraFactors


@dataclass(frozen=True)
class Smaller:
    """A smaller adapter, and what is left of the change that it stands for.

    Attributes:
        adapter: the smaller one.
        kept: module → share of the squared Frobenius norm of its weight's change that is kept,
            0..1; 1 for a module that does not change.
        total: the same share over all modules together.
    """

    adapter: Adapter
    kept: Mapping[str, float]
    total: float


def product_svd(adapter: Adapter, module: str) -> tuple[Tensor, Tensor, Tensor]:
    """Decompose a module's change exactly, without ever forming its M×N matrix.

    ``s·B·A = Q_B (s·R_B R_Aᵀ) Q_Aᵀ`` by two QR decompositions; the matrix in the middle is at
    most R×R. O((M + N) R²) operations, all in float64.

    Args:
        adapter: on any device.
        module: one of its modules.

    Returns:
        ``u_MK``, ``s_K`` (falling) and ``vh_KN`` in float64; K is the least of R, M and N.
    """
    a_RN, b_MR = (factor.double() for factor in adapter.factors[module])
    qb_MK, rb_KR = torch.linalg.qr(b_MR)
    qa_NK, ra_KR = torch.linalg.qr(a_RN.T)
    u, s_K, vh = torch.linalg.svd(adapter.scale * rb_KR @ ra_KR.T, full_matrices=False)
    return qb_MK @ u, s_K, vh @ qa_NK.T


def compress(adapter: Adapter, *, rank: int) -> Smaller:
    """Reduce an adapter to a rank: of each module the best approximation of its change.

    By Eckart and Young no adapter of that rank is nearer in the Frobenius norm. Both factors get
    the square root of the singular values, and alpha is the rank, so that PEFT's scale is 1.

    Args:
        adapter: to reduce; its factors are not changed.
        rank: of the result, at least 1. At the adapter's own rank or above nothing is lost: the
            adapter is returned as it is.

    Returns:
        The reduced adapter in float32, with what it keeps.

    Raises:
        RankError: if the rank is below 1.
    """
    if rank < 1:
        raise RankError(
            f"Rank {rank} was asked for; it is at least 1. This adapter has rank {adapter.rank}, "
            "a lower one compresses it."
        )
    if rank >= adapter.rank:
        return Smaller(adapter, dict.fromkeys(sorted(adapter.factors), 1.0), 1.0)
    factors, kept, norms = {}, {}, {}
    for module in sorted(adapter.factors):
        u_MK, s_K, vh_KN = product_svd(adapter, module)
        factors[module] = _factors(u_MK, s_K, vh_KN, rank)
        norms[module] = float(s_K.square().sum())
        kept[module] = _share(float(s_K[:rank].square().sum()), norms[module])
    whole = sum(norms.values())
    total = _share(sum(kept[module] * norms[module] for module in kept), whole)
    smaller = replace(adapter, factors=factors, rank=rank, alpha=float(rank))
    return Smaller(smaller, kept, total)


def _factors(u_MK: Tensor, s_K: Tensor, vh_KN: Tensor, rank: int) -> LoraFactors:
    """Cut to the rank; a matrix with fewer singular values is filled up with zeros."""
    half_R = s_K[:rank].sqrt()
    a_RN, b_MR = half_R[:, None] * vh_KN[:rank], u_MK[:, :rank] * half_R
    lack = rank - half_R.shape[0]
    if lack > 0:
        a_RN = torch.cat([a_RN, a_RN.new_zeros(lack, a_RN.shape[1])])
        b_MR = torch.cat([b_MR, b_MR.new_zeros(b_MR.shape[0], lack)], dim=1)
    return LoraFactors(a_RN.float().contiguous(), b_MR.float().contiguous())


def _share(part: float, whole: float) -> float:
    return min(1.0, part / whole) if whole > 0 else 1.0


def without_modules(adapter: Adapter, modules: Collection[str]) -> Smaller:
    """Leave modules out of an adapter, and measure what goes with them.

    Args:
        adapter: to reduce.
        modules: to leave out; names that it does not have are ignored. With an embedding, the head
            that is tied to it is left out too.

    Returns:
        The adapter without them; ``kept`` is 0 for a module left out, else 1.

    Raises:
        ConfigError: if nothing would be left.
    """
    left = {name: pair for name, pair in adapter.factors.items() if name not in modules}
    if not left:
        raise ConfigError(
            f"The adapter changes only {', '.join(sorted(adapter.factors))}, so nothing would be "
            "left of it. Deliver it whole, or merged."
        )
    norms = {m: float(product_svd(adapter, m)[1].square().sum()) for m in adapter.factors}
    embeddings = adapter.embeddings & left.keys()
    smaller = replace(
        adapter,
        factors=left,
        embeddings=embeddings,
        tied_head=adapter.tied_head if embeddings else None,
    )
    total = _share(sum(norms[module] for module in left), sum(norms.values()))
    return Smaller(smaller, {m: float(m in left) for m in sorted(adapter.factors)}, total)
