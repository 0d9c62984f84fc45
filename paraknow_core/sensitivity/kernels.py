"""Triton's kernels of ``tile``: every element of the sums is read and written once.

Both are free of atomics and of any choice by measurement, so the same input gives the same bits on
the same kind of GPU. Each program writes the total of its own block; torch adds these up.

Legend: T tokens, M out_features, N in_features.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK_M, _BLOCK_N, _BLOCK_T = 64, 128, 64
_WARPS, _STAGES = 8, 3
"""A program's block of the product, and how it is run: for compute capability 9.0 this takes 102
registers a thread and 74 kB, so two programs share a processor, and one multiplies while the other
waits for its sums. Blocks of 128 × 128 take 198 registers: one program a processor."""
_BLOCK = 4096
"""Elements of a gradient that a program adds."""


def add_absolute(sums: Tensor, gradient: Tensor) -> Tensor:
    """``sums += |gradient|``; returns its total. Both are contiguous, of one shape and device."""
    size = gradient.numel()
    blocks = triton.cdiv(size, _BLOCK)
    totals = torch.empty(blocks, dtype=torch.float32, device=sums.device)
    if blocks:
        with _on(sums):
            _absolute[(blocks,)](sums, gradient, totals, size, BLOCK=_BLOCK)
    return totals.sum()


def add_absolute_product(sums_MN: Tensor, dy_TM: Tensor, x_TN: Tensor) -> Tensor:
    """``sums += |dyᵀ x|``; returns the total of ``|dyᵀ x|``. All three are contiguous."""
    size_T, size_M = dy_TM.shape
    size_N = x_TN.shape[1]
    grid = (triton.cdiv(size_N, _BLOCK_N), triton.cdiv(size_M, _BLOCK_M))
    totals = torch.empty(grid[0] * grid[1], dtype=torch.float32, device=sums_MN.device)
    if len(totals):
        with _on(sums_MN):
            _product[grid](
                sums_MN,
                dy_TM,
                x_TN,
                totals,
                size_T,
                size_M,
                size_N,
                BLOCK_M=_BLOCK_M,
                BLOCK_N=_BLOCK_N,
                BLOCK_T=_BLOCK_T,
                num_warps=_WARPS,
                num_stages=_STAGES,
            )
    return totals.sum()


def _on(tensor: Tensor) -> Any:
    """Make the tensor's GPU the one that kernels are launched on; nothing on a CPU."""
    return torch.cuda.device_of(tensor)  # type: ignore[no-untyped-call]


@triton.jit  # type: ignore[untyped-decorator]
def _absolute(sums, gradient, totals, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    program = tl.program_id(0)
    places = program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = places < size
    values = tl.abs(tl.load(gradient + places, mask=inside, other=0.0).to(tl.float32))
    tl.store(sums + places, tl.load(sums + places, mask=inside, other=0.0) + values, mask=inside)
    tl.store(totals + program, tl.sum(values, 0))


@triton.jit(do_not_specialize=["size_T"])  # type: ignore[untyped-decorator]
def _product(  # type: ignore[no-untyped-def] # noqa: PLR0917
    sums,
    dy,
    x,
    totals,
    size_T,
    size_M,
    size_N,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_T: tl.constexpr,
):
    across, down = tl.program_id(0), tl.program_id(1)
    rows_M = down * BLOCK_M + tl.arange(0, BLOCK_M)
    cols_N = across * BLOCK_N + tl.arange(0, BLOCK_N)
    tokens_T = tl.arange(0, BLOCK_T)
    inside_M, inside_N = rows_M < size_M, cols_N < size_N
    gradient_MN = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, size_T, BLOCK_T):
        token = (start + tokens_T)[:, None]
        at_T = token.to(tl.int64)
        there = token < size_T
        dy_TM = tl.load(
            dy + at_T * size_M + rows_M[None, :], mask=there & inside_M[None, :], other=0.0
        )
        x_TN = tl.load(
            x + at_T * size_N + cols_N[None, :], mask=there & inside_N[None, :], other=0.0
        )
        gradient_MN = tl.dot(tl.trans(dy_TM), x_TN, gradient_MN)
    gradient_MN = tl.abs(gradient_MN)
    at = sums + rows_M[:, None].to(tl.int64) * size_N + cols_N[None, :]
    inside = inside_M[:, None] & inside_N[None, :]
    tl.store(at, tl.load(at, mask=inside, other=0.0) + gradient_MN, mask=inside)
    tl.store(totals + down * tl.num_programs(0) + across, tl.sum(tl.sum(gradient_MN, 1), 0))
