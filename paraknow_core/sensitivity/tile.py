"""What is done with a gradient once it is there: absolute value, total, sum; and its product.

On a CPU torch's own operations do it, on a tile that stays in the cache. On a GPU the memory is the
limit: these operations read and write a tile four times over, while the product of a few hundred
tokens takes less time than one pass. So Triton's kernels (``kernels``) read each element once, and
of a product in 16 bits no tile is ever written. Torch's operations are the reference: the kernels
are compared with them on each device before they are used, and where Triton is missing or does not
hold, torch's operations are used there too.

A gradient in 16 bits is summed over its tokens in float32 on a GPU, and never rounded to 16 bits.
On a CPU, torch rounds it once.

Legend: T tokens, M out_features, N in_features.
"""

import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

_LEAST_CAPABILITY = (8, 0)
"""Of a GPU whose tensor cores multiply bfloat16."""


def tile_dtype(like: Tensor) -> torch.dtype:
    """The dtype of a tile of the gradients that ``like`` is a factor of."""
    return torch.float32 if like.is_cuda and like.itemsize == 2 else like.dtype


def product(left_MT: Tensor, right_TN: Tensor, out_MN: Tensor) -> None:
    """Multiply into a tile of ``tile_dtype``, with sums in float32 at least."""
    if out_MN.dtype == left_MT.dtype:
        torch.mm(left_MT, right_TN, out=out_MN)
    else:
        torch.mm(left_MT, right_TN, out_dtype=out_MN.dtype, out=out_MN)


def add_absolute(sums: Tensor, gradient: Tensor) -> Tensor:
    """Add ``|gradient|`` to ``sums``.

    Args:
        sums: float32, contiguous, added to in place.
        gradient: of the same shape; its values are given up.

    Returns:
        A float32 scalar, the sum of ``|gradient|``: NaN or infinite if an element is.
    """
    kernels = _kernels(gradient.device) if gradient.is_cuda else None
    if kernels is not None and gradient.is_contiguous() and gradient.dtype != torch.float64:
        total: Tensor = kernels.add_absolute(sums, gradient)
        return total
    gradient.abs_()
    total = gradient.sum(dtype=torch.float32)
    sums.add_(gradient)
    return total


def add_at(sums_RH: Tensor, places_T: Tensor, rows_TH: Tensor) -> None:
    """Add each row of ``rows_TH`` to the row of ``sums_RH`` that ``places_T`` names.

    On a GPU as a product with a matrix of zeros and ones: there ``index_add_`` adds in whatever
    order its threads come, so the last bits would differ from one time to the next.
    """
    if sums_RH.is_cuda:
        every_R = torch.arange(len(sums_RH), device=sums_RH.device)
        chosen_RT = (every_R[:, None] == places_T).to(rows_TH.dtype)
        sums_RH.addmm_(chosen_RT, rows_TH)
    else:
        sums_RH.index_add_(0, places_T, rows_TH)


def is_fused(dy_TM: Tensor) -> bool:
    """Whether ``add_absolute_product`` takes a gradient of these outputs, on their device."""
    return dy_TM.is_cuda and dy_TM.itemsize == 2 and _kernels(dy_TM.device) is not None


def add_absolute_product(sums_MN: Tensor, dy_TM: Tensor, x_TN: Tensor) -> Tensor:
    """Add ``|dyᵀ x|`` to sums, where ``is_fused`` says so; the product is never in memory.

    Args:
        sums_MN: float32, contiguous, added to in place.
        dy_TM: bfloat16 or float16, on a GPU.
        x_TN: of the same dtype.

    Returns:
        A float32 scalar, as ``add_absolute``.
    """
    kernels = _kernels(dy_TM.device)
    if kernels is None:
        raise AssertionError("asked for where is_fused is False")
    total: Tensor = kernels.add_absolute_product(sums_MN, dy_TM.contiguous(), x_TN.contiguous())
    return total


@cache
def _kernels(device: torch.device) -> ModuleType | None:
    """The kernels, if they hold on this device; one warning says it if they do not."""
    if torch.cuda.get_device_capability(device) < _LEAST_CAPABILITY:
        return None
    try:
        from paraknow_core.sensitivity import kernels
    except ImportError:
        return None
    try:
        problem = differs(kernels, device)
    # Compilers and drivers raise kinds of their own, and the way that needs neither is there.
    except Exception as error:  # noqa: BLE001
        problem = f"{type(error).__name__}: {str(error)[:300]}"
    if problem:
        warnings.warn(
            f"Triton's kernels are not used on {device} ({problem}); the sensitivity is computed "
            "by torch's own operations, which takes longer.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return kernels


def differs(
    kernels: ModuleType, device: torch.device | str, dtype: torch.dtype = torch.bfloat16
) -> str:
    """Compare the kernels with torch's operations on small sizes that fill no block.

    Args:
        kernels: the module that is looked at.
        device: that it runs on.
        dtype: of the factors.

    Returns:
        What is wrong with them; '' if nothing is.
    """
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype).to(device)

    for size_T, size_M, size_N in ((1, 3, 5), (70, 136, 272)):
        dy_TM, x_TN = drawn(size_T, size_M), drawn(size_T, size_N)
        expected = (dy_TM.double().T @ x_TN.double()).abs()
        found = torch.ones(size_M, size_N, device=device)
        totals = [kernels.add_absolute_product(found, dy_TM, x_TN)]
        totals.append(kernels.add_absolute(found, expected.neg().float()))
        error = float((found.double() - 1 - 2 * expected).abs().max() / expected.max())
        off = max(abs(float(total) / float(expected.sum()) - 1) for total in totals)
        if not max(error, off) < 1e-5:
            return f"off by {max(error, off):.1e} at {size_T} × {size_M} × {size_N}"
        dy_TM[0, 0] = float("nan")
        if bool(kernels.add_absolute_product(found, dy_TM, x_TN).isfinite()):
            return "NaN is not seen"
    return ""
