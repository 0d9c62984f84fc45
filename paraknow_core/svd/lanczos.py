"""The leading right singular subspace of a large matrix, by block Lanczos on AᵀA in float32.

Golub and Van Loan, Matrix Computations (4th ed.), §10.3.6, with full reorthogonalisation and no
restarts. Shape suffixes: P, Q = rows and columns, P ≥ Q; B = block; K = basis built so far.

Why not a library: CPU seconds on one thread for rank 32, against ``scipy.sparse.linalg.svds``
(ARPACK, float64), both with the certificate (``benchmarks/core_steps.py`` measures them as well):

==========================  =====  =====
4096²                        ours   svds
==========================  =====  =====
N(0, 1)                       4.6   10.5
with 24 larger directions     3.0    5.5
σ falls as a power            1.6    2.7
one σ is 40 times the rest   15.7    9.5  (float32 is not enough: it falls back)
==========================  =====  =====

At 2048² svds takes 1.7 times as long as ours and more; at 1024² and below the two differ by less
than 0.1 seconds, mostly in favour of svds; the Gram matrix takes 1.5 where svds takes 11 for
49152 × 576. The fourth line is rare, and a second fall-back would be more code than it saves.
``torch.svd_lowrank`` takes a tenth, but misses the best product by a tenth or more.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from paraknow_core.svd.blas_threads import linalg
from paraknow_core.svd.products import gram_times

_BLOCK = 16  # at 4096²: as fast as 8, and 1.5 times as fast as 1, 4 or 32
_TOLERANCES = (3e-7, 3e-8)
"""Residuals over λ₁: the first is enough unless σ_R is far below σ₁; float32 reaches 1e-8."""

_BREAKDOWN = 1e-4  # relative to λ₁; a smaller new block is mostly rounding: orthogonalise it again
_LARGEST_BASIS = 1280  # twice what N(0, 1) of 4096² takes
_SEED = 2310_11451


@dataclass(frozen=True)
class KrylovBasis:
    """Orthonormal float64 vectors that hold the leading right singular subspace.

    ``passes`` counts the passes over the matrix; ``converged`` is False if the limit came first.
    """

    vectors_QK: Tensor  # noqa: N815 - shape suffixes
    passes: int
    converged: bool


def krylov_bases(matrix_PQ: Tensor, *, rank: int, keep: int) -> Iterator[KrylovBasis]:
    """Find ``keep`` vectors of which the first ``rank`` have converged, then ever better ones.

    Args:
        matrix_PQ: any float dtype, P ≥ Q; the iteration runs in float32 on its device.
        rank: how many leading singular vectors have to converge.
        keep: how many Ritz vectors to return, in rank..Q; those beyond ``rank`` are less exact.

    Yields:
        A basis for each residual of ``_TOLERANCES``. The second goes on where the first ended, and
        costs only the passes between the two. The random start is fixed, so the same matrix gives
        the same bits at the same number of threads.
    """
    limit = min(_LARGEST_BASIS, matrix_PQ.shape[1] // 2) // _BLOCK
    lanczos = _Lanczos(matrix_PQ, limit)
    check, history = 4 + math.ceil(keep / _BLOCK), list[tuple[int, float]]()
    tolerances = list(_TOLERANCES)
    for step in range(1, limit + 1):
        lanczos.extend()
        if step not in (check, limit):
            continue
        ritz_KK, residual = lanczos.ritz(rank=rank, keep=keep)
        history.append((step, residual))
        if residual <= tolerances[0] or step == limit:
            yield KrylovBasis(lanczos.expand(ritz_KK), step, residual <= tolerances[0])
            tolerances = [smaller for smaller in tolerances if smaller < residual]
            if not tolerances:
                return
        check = _next_check(history, tolerances[0])


def _next_check(history: list[tuple[int, float]], tolerance: float) -> int:
    """At which step to compute the residual again, which costs an eigendecomposition.

    The residual falls geometrically, and faster later on: so the estimate from the last two is cut
    to three quarters, and it never goes beyond half as many steps again.
    """
    step, residual = history[-1]
    furthest = step + step // 2
    if len(history) == 1 or residual >= history[-2][1]:
        return furthest
    before, larger = history[-2]
    per_step = math.log(larger / residual) / (step - before)
    missing = math.log(residual / tolerance) / per_step
    return min(step + max(1, math.ceil(0.75 * missing)), furthest)


class _Lanczos:
    """The basis with room to grow, and AᵀA projected on it: block tridiagonal, lower half kept."""

    def __init__(self, matrix_PQ: Tensor, limit: int) -> None:
        room, size = (limit + 1) * _BLOCK, matrix_PQ.shape[1]
        self._matrix_PQ = matrix_PQ
        self._basis_KQ = torch.empty((room, size), device=matrix_PQ.device)
        self._projected_KK = torch.zeros((room, room), dtype=torch.float64)
        self._size = 0  # vectors whose product with AᵀA is known; one more block is ready
        generator = torch.Generator().manual_seed(_SEED)
        start_QB = torch.randn((size, _BLOCK), generator=generator).to(matrix_PQ.device)
        self._block_QB = torch.linalg.qr(start_QB).Q
        self._basis_KQ[:_BLOCK] = self._block_QB.T

    def extend(self) -> None:
        """Take the ready block into the basis, and make the next one."""
        old, now, new = self._size - _BLOCK, self._size, self._size + _BLOCK
        known_KQ, block_QB = self._basis_KQ[:new], self._block_QB
        next_QB = gram_times(self._matrix_PQ, block_QB)
        if now:
            coupling_BB = self._projected_KK[now:new, old:now].to(next_QB)
            next_QB -= self._basis_KQ[old:now].T @ coupling_BB.T
        diagonal_BB = block_QB.T @ next_QB
        next_QB -= block_QB @ diagonal_BB
        next_QB -= known_KQ.T @ (known_KQ @ next_QB)
        next_QB, coupling_BB = torch.linalg.qr(next_QB)
        if coupling_BB.diagonal().abs().min() <= _BREAKDOWN * diagonal_BB.abs().max():
            for _ in range(2):
                next_QB = torch.linalg.qr(next_QB - known_KQ.T @ (known_KQ @ next_QB)).Q
        self._projected_KK[now:new, now:new] = diagonal_BB
        self._projected_KK[new : new + _BLOCK, now:new] = coupling_BB
        self._basis_KQ[new : new + _BLOCK] = next_QB.T
        self._block_QB, self._size = next_QB.contiguous(), new

    def ritz(self, *, rank: int, keep: int) -> tuple[Tensor, float]:
        """The leading Ritz vectors, and the greatest residual of the first ``rank`` over λ₁."""
        size = self._size
        values, vectors = linalg().eigh(
            self._projected_KK[:size, :size].numpy(), subset_by_index=(size - keep, size - 1)
        )
        ritz_KK = torch.from_numpy(vectors[:, ::-1].copy())
        coupling_BB = self._projected_KK[size : size + _BLOCK, size - _BLOCK : size]
        residuals = (coupling_BB @ ritz_KK[-_BLOCK:, :rank]).norm(dim=0)
        return ritz_KK, float(residuals.max()) / (float(values[-1]) or 1.0)

    def expand(self, ritz_KK: Tensor) -> Tensor:
        """Ritz vectors in the matrix's own coordinates, float64, orthonormal."""
        basis_QK = self._basis_KQ[: self._size].T.double()
        vectors_QK: Tensor = torch.linalg.qr(basis_QK @ ritz_KK.to(basis_QK.device)).Q
        return vectors_QK
