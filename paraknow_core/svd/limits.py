"""Which driver of the SVD suits which size: the limits, for what computes and for what estimates.

Needs no torch.
"""

GRAM_BELOW = 1000
"""Smaller side below which the Gram matrix wins."""
PADDING = 48
"""Extra vectors in Krylov's float64 projection; they take up the float32 error near the gap."""


def largest_krylov_rank(size: int) -> int:
    """Return the largest rank that Krylov takes on a smaller side of ``size``; below 1 for none."""
    return size // 16 - PADDING


def takes_krylov(size: int, rank: int) -> bool:
    """Tell whether a matrix of that smaller side is decomposed by Krylov, if not on a GPU."""
    return size >= GRAM_BELOW and rank <= largest_krylov_rank(size)
