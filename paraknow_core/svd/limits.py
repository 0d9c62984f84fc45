"""Which SVD driver is used for which size of matrix: for the SVD itself and for cost estimates.

Needs no torch.
"""

GRAM_BELOW = 1000
"""Smaller side below which the Gram matrix is the faster driver."""
PADDING = 48
"""Vectors beyond the rank in Krylov's float64 projection.

With them, errors of the float32 iteration near the last singular value that is kept do not matter.
"""


BEYOND = 96
"""Vectors beyond the rank that the subspace driver iterates with; the more, the faster it is."""
COPIED_ELEMENTS = 2**21
"""Elements that are copied to float64 at a time on a CPU: 16 MiB."""
DEVICE_ELEMENTS = 2**27
"""The same on a GPU, 1 GiB: it is faster with a few large products."""


def largest_krylov_rank(size: int) -> int:
    """Return the largest rank that Krylov takes on a smaller side of ``size``; below 1 for none."""
    return size // 16 - PADDING


def takes_krylov(size: int, rank: int) -> bool:
    """Tell whether a matrix of that smaller side is decomposed by Krylov, if not on a GPU."""
    return size >= GRAM_BELOW and rank <= largest_krylov_rank(size)


def largest_subspace_rank(size: int) -> int:
    """Return the largest rank that the subspace driver takes; below 1 for none."""
    return size // 4 - BEYOND


def takes_subspace(size: int, rank: int) -> bool:
    """Tell whether a matrix of that smaller side is decomposed by subspace iteration on a GPU."""
    return size >= GRAM_BELOW and rank <= largest_subspace_rank(size)
