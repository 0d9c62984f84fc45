"""The same bits from the same input on a GPU too."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from torch.nn import functional

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REDUCED = "allow_bf16_reduced_precision_reduction"


@contextmanager
def repeatable(device: str | torch.device) -> Iterator[None]:
    """Have products and attention add in a fixed order, and never in 16 bits.

    On a GPU the fused attention adds up the gradient of its queries in whatever order its blocks
    come, unless torch is told to be deterministic; and a product may be split into parts whose
    sums are rounded to the factors' 16 bits. Of the kinds of attention those two are left that can
    be told. Settings of the process, so they are put back. A CPU needs none of it.

    Args:
        device: that is computed on.
    """
    if torch.device(device).type != "cuda":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # Read at the process's first product; where that was before, `_refuses` notices.
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    matmul: Any = torch.backends.cuda.matmul
    with ExitStack() as exits:
        exits.enter_context(sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]))
        before = tuple(getattr(matmul, _REDUCED + part) for part in ("", "_split_k"))
        exits.callback(setattr, matmul, _REDUCED, before)
        setattr(matmul, _REDUCED, (False, before[1]))
        fill: Any = torch.utils.deterministic
        exits.callback(setattr, fill, "fill_uninitialized_memory", fill.fill_uninitialized_memory)
        fill.fill_uninitialized_memory = False  # a debugging aid that writes every new tensor
        exits.callback(
            torch.use_deterministic_algorithms,
            torch.are_deterministic_algorithms_enabled(),
            warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        torch.use_deterministic_algorithms(not _refuses(torch.device(device)))
        yield


@cache
def _refuses(device: torch.device) -> bool:
    """Whether torch cannot compute in a fixed order in this process; the answer stays the same.

    Asked by a small case of each operation that a decoder's backward pass is made of: better other
    last bits than an error in the middle of a model.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with torch.enable_grad():
            ones = torch.ones(16, 16, device=device, requires_grad=True)
            places = torch.zeros(16, dtype=torch.long, device=device)
            loss = functional.cross_entropy((ones @ ones)[places], places)
            half = ones.bfloat16().expand(1, 2, 16, 16)
            mixed = functional.scaled_dot_product_attention(half, half, half, is_causal=True)
            torch.autograd.grad(loss + mixed.float().sum(), ones)
        ones.detach().index_fill(1, places, 0)[places, places] = 1
    except RuntimeError:
        return True
    finally:
        torch.use_deterministic_algorithms(before)
    return False
