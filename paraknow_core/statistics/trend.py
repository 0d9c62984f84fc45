"""Does a method get better from pair to pair, in an order that was declared beforehand.

A value is one number a seed of one pair; the same seed stands for the same data order in every
pair, so that seeds are blocks and pairs are treatments.

Shapes: n = seeds that all pairs have, k = pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from paraknow_core.errors import DataError
from paraknow_core.statistics.paired_items import refuse_nan
from paraknow_core.statistics.paired_seeds import seed_test

PAGE_FROM = 3
"""Pairs from which on Page's test is used; two are compared by the paired sign-flip test."""


@dataclass(frozen=True)
class Trend:
    """How one method does along a declared order of pairs.

    Attributes:
        means: of each pair, over the seeds that all have, in the declared order.
        n: how many seeds that are.
        test: its name in words; empty where every pair has the same values.
        p_value: of "the order of the pairs makes no difference"; None where they are the same.
        rises: whether the last pair's mean is better than the first's.
    """

    means: tuple[float, ...]
    n: int
    test: str
    p_value: float | None
    rises: bool


def trend(values: Sequence[Mapping[int, float]], *, higher_is_better: bool) -> Trend:
    """Test whether values get better in the order in which they are given.

    Three pairs or more: Page's L (Page 1963, JASA 58), the ranks within each seed against the
    declared order, its exact distribution for few seeds. The test is one-sided, as the order is
    the hypothesis. Two pairs: the two-sided paired sign-flip test, as everywhere else.

    Args:
        values: of each pair, seed → value; the pair expected to be worst comes first.
        higher_is_better: which of two values is better.

    Raises:
        DataError: for fewer than two pairs, or fewer than two seeds that all have.
        NumericsError: if a value is NaN or infinite.
    """
    import numpy as np
    from scipy.stats import page_trend_test

    if len(values) < 2:
        raise DataError(f"an order has two pairs or more; given: {len(values)}")
    seeds = sorted(set.intersection(*(set(of_pair) for of_pair in values)))
    if len(seeds) < 2:
        raise DataError(
            f"the pairs share {len(seeds)} seed(s) with a result; at least 2 are needed for a test"
        )
    table = np.array([[of_pair[seed] for of_pair in values] for seed in seeds], dtype=np.float64)
    refuse_nan(table)
    means = tuple(float(mean) for mean in table.mean(0))
    better = table if higher_is_better else -table
    rises = bool(better[:, -1].mean() > better[:, 0].mean())
    if bool((table == table[:, :1]).all()):
        return Trend(means, len(seeds), "", None, False)
    if len(values) < PAGE_FROM:
        p = seed_test(better[:, 1] - better[:, 0])
        return Trend(means, len(seeds), "paired sign-flip test", p, rises)
    p = float(page_trend_test(better).pvalue)
    return Trend(means, len(seeds), "Page’s trend test", p, rises)
