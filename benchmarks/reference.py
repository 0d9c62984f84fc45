"""The published algorithm as published: what the project's core steps are measured against.

Reimplemented from the paper (SeeKing, arXiv 2310.11451, §3) and from its public code: one backward
pass per sample with logits for every token, a full set of gradients, the sample's sensitivity and
the running sum; a Python loop over every window of a float32 summed-area table; a full SVD (square
U and V) in float32. Nothing is slowed down: no garbage collection between samples,
no copies that the algorithm does not need.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from paraknow_core.data.examples import TokenisedExample


def sensitivity(model: Any, samples: Sequence[TokenisedExample]) -> dict[str, Tensor]:
    """``Σ_j |θ · ∂L(x_j)/∂θ|`` by parameter name."""
    running: dict[str, Tensor] = {}
    for sample in samples:
        model.zero_grad(set_to_none=True)
        ids, labels = (torch.tensor([row]) for row in (sample.input_ids, sample.labels))
        model(input_ids=ids, labels=labels).loss.backward()
        current = {name: (p * p.grad).abs().detach() for name, p in model.named_parameters()}
        for name, values in current.items():
            if name in running:
                running[name] += values
            else:
                running[name] = values
    model.zero_grad(set_to_none=True)
    return running


def layer_scores(maps: dict[str, Tensor], num_layers: int) -> list[float]:
    """Sum each decoder layer's maps."""
    return [
        sum(float(m.sum()) for name, m in maps.items() if f".layers.{layer}." in name)
        for layer in range(num_layers)
    ]


def choose_layers(scores: list[float], count: int) -> list[int]:
    """The layers of the greatest score, in their own order."""
    return sorted(sorted(range(len(scores)), key=lambda i: scores[i], reverse=True)[:count])


def best_window(scores: Tensor, rows: int, cols: int) -> tuple[int, int]:
    """Look at every position of the window, one by one."""
    table = scores.cumsum(0).cumsum(1)
    greatest: float | Tensor = -1.0
    place = (0, 0)
    for row in range(scores.shape[0] - rows + 1):
        for col in range(scores.shape[1] - cols + 1):
            total = table[row + rows - 1, col + cols - 1]
            if row:
                total = total - table[row - 1, col + cols - 1]
            if col:
                total = total - table[row + rows - 1, col - 1]
            if row and col:
                total = total + table[row - 1, col - 1]
            if total > greatest:
                greatest, place = total, (row, col)
    return place


def low_rank(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """``B₀ = U_r Σ_r`` and ``A₀ = V_rᵀ`` from the full decomposition."""
    u, s, vh = torch.linalg.svd(weight, full_matrices=True)
    return u[:, :rank] * s[:rank], vh[:rank]


def arpack(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """SciPy's truncated SVD in float64, from a fixed start vector."""
    import numpy as np
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(0).standard_normal(min(weight.shape))
    u, s, vh = svds(weight.double().numpy(), k=rank, v0=start)
    return torch.from_numpy(u * s), torch.from_numpy(vh)


def random_projection(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """PyTorch's randomised SVD: fast, and for a flat spectrum far from the best product."""
    u, s, v = torch.svd_lowrank(weight, q=rank + 8, niter=2)
    return u[:, :rank] * s[:rank], v[:, :rank].T
