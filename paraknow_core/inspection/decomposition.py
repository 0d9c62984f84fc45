"""How much work and memory the truncated SVD of matrices takes. Needs no torch.

Estimates, as those of `cost`: the products that dominate, and the copies that are there at once.
"""

from collections.abc import Iterable, Sequence

from paraknow_core.inspection.work import Work
from paraknow_core.svd.limits import (
    BEYOND,
    DEVICE_ELEMENTS,
    PADDING,
    takes_krylov,
    takes_subspace,
)

_KRYLOV_PASSES = 16
_FILTER_PRODUCTS = 40
"""With the Gram matrix, until subspace iteration has converged: 30 to 50."""
_PROJECTIONS = 3
"""Products of the matrix itself with the vectors: to project on them, and two to check them."""
_DOUBLE = 8  # bytes
_GRAM_COPIES = 4
"""Of the Gram matrix on a GPU: itself, its two triangles, or what the eigensolver works in."""


def decomposition_work(
    shapes: Iterable[Sequence[int]], max_rank: int, *, device: str = "cpu"
) -> Work:
    """Work of the truncated SVD of matrices of these shapes.

    Args:
        shapes: rows and columns of each.
        max_rank: of the decompositions.
        device: ``cpu`` or ``cuda``, by which the driver is chosen.
    """
    operations = _on_gpu if device == "cuda" else _on_cpu
    each = [operations(max(shape), min(shape), max_rank) for shape in shapes]
    return Work(flops64=sum(each), launches=len(each))


def decomposition_bytes(shapes: Iterable[Sequence[int]], *, device: str = "cpu") -> int:
    """Memory of the largest of these matrices' decompositions; there is one at a time.

    Args:
        shapes: rows and columns of each.
        device: ``cpu`` or ``cuda``: whose memory it is.

    Returns:
        On a CPU the bytes of the matrix and its Gram matrix in float64. On a GPU those of the
        matrix in its stored dtype and in float32, or in float64 if it is small, of a block of it in
        float64, and of the Gram matrix with its copies.
    """
    needed = _bytes_on_gpu if device == "cuda" else _bytes_on_cpu
    return max(needed(max(shape), min(shape)) for shape in shapes)


def _bytes_on_cpu(long: int, short: int) -> int:
    return _DOUBLE * (long * short + short**2)


def _bytes_on_gpu(long: int, short: int) -> int:
    matrix = long * short
    return _DOUBLE * (matrix + min(matrix, DEVICE_ELEMENTS) + _GRAM_COPIES * short**2)


def _on_cpu(long: int, short: int, rank: int) -> float:
    """Operations of the driver that ``truncated_svd`` chooses, counted in float64 operations.

    Krylov, for large matrices, runs in float32: an operation counts half.
    """
    if takes_krylov(short, rank):
        width = rank + PADDING
        return 0.5 * _KRYLOV_PASSES * 4.0 * long * short * width
    return _gram(long, short, rank)


def _on_gpu(long: int, short: int, rank: int) -> float:
    """The same on a GPU: all in float64."""
    if not takes_subspace(short, rank):
        return _gram(long, short, rank)
    iterated = 2.0 * short**2 * (rank + BEYOND) * _FILTER_PRODUCTS
    return 2.0 * long * short * (short + _PROJECTIONS * (rank + PADDING)) + iterated


def _gram(long: int, short: int, rank: int) -> float:
    return 2.0 * long * short**2 + 4.0 * short**3 + 4.0 * long * short * rank
