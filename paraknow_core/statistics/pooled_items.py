"""Item by item differences of two methods, pooled over training seeds.

Legend: S = seeds, I = items; the same I items were answered by the models of all S seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraknow_core.errors import ConfigError, DataError
from paraknow_core.statistics.paired_items import McNemar, check_pairs, mcnemar, refuse_nan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from paraknow_core.evaluation.items import Item
    from paraknow_core.evaluation.metric import Metric

COVERS = "The interval covers other training seeds and other test items of the same kind."


@dataclass(frozen=True)
class PooledDifference:
    """A minus B over seeds × items.

    ``low`` and ``high`` are to be printed; ``bootstrap_low`` and ``bootstrap_high`` stand next to
    them (see `pooled_difference` for what each covers).
    """

    mean: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    seeds: int
    items: int
    confidence: float


def pooled_difference(
    a_items: "Mapping[int, Sequence[Item]]",
    b_items: "Mapping[int, Sequence[Item]]",
    *,
    metric: "Metric",
    confidence: float = 0.95,
    resamples: int = 2_000,
    rng_seed: int = 0,
) -> PooledDifference:
    """Difference of a metric, in its unit, with seeds and items random.

    Both intervals cover other training seeds *and* other items; `paired_items.paired_difference`
    covers items alone and `paired_seeds.compare_seeds` seeds alone.

    Printed: mean ± t · √V with V = (MS_seed + MS_item − MS_rest) / (S·I), not below the larger of
    MS_seed and MS_item over S·I, of the two-way layout with both factors random, and
    Satterthwaite's (1946) degrees of freedom of MS_seed + MS_item (Scheffé 1959, §7.4). A
    weighted mean such as NLL is a ratio, so what enters is its first-order residual (an item's
    value minus mean · weight).
    Next to it: the two-way percentile bootstrap ("pigeonhole", Owen 2007), seeds and items
    resampled independently. It counts the rest three times (too wide where seeds and items matter
    little) and knows only S seeds (too narrow where seeds matter): measured at S = 5, I = 200 for
    a nominal 95 %: .996, .959, .905 from noise alone to strong seeds; printed: .962, .956, .939.

    Args:
        a_items: seed to items of method A.
        b_items: of method B; seeds that only one side has are left out.
        metric: one without a transform.
        confidence: of both intervals, between 0 and 1.
        resamples: of the bootstrap.
        rng_seed: of the resampling.

    Raises:
        DataError: if fewer than 2 seeds or items are shared, or the items are not the same.
        NumericsError: if a value is NaN or infinite.
        ConfigError: for a confidence or a number of resamples out of range.
    """
    if not 0 < confidence < 1 or resamples < 100:
        raise ConfigError(
            f"confidence must be between 0 and 1 (got {confidence}) and resamples at least 100 "
            f"(got {resamples})"
        )
    differences_SI, weights_I = _table(a_items, b_items, metric)
    seeds, items = differences_SI.shape
    mean, half = _mean_and_half_width(differences_SI, weights_I, confidence)
    low, high = _pigeonhole(differences_SI, weights_I, confidence, resamples, rng_seed)
    return PooledDifference(mean, mean - half, mean + half, low, high, seeds, items, confidence)


def crossed_interval(
    a_items: "Mapping[int, Sequence[Item]]",
    b_items: "Mapping[int, Sequence[Item]]",
    *,
    metric: "Metric",
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The printed interval of `pooled_difference` alone, which draws nothing at random.

    Raises:
        DataError: as `pooled_difference`.
        NumericsError: as `pooled_difference`.
    """
    mean, half = _mean_and_half_width(*_table(a_items, b_items, metric), confidence)
    return mean - half, mean + half


def majority_mcnemar(
    a_items: "Mapping[int, Sequence[Item]]",
    b_items: "Mapping[int, Sequence[Item]]",
    metric: "Metric",
) -> McNemar:
    """McNemar's exact test of two methods; an item is right if the models of most seeds get it.

    One test for each seed would give S p-values, and adding up their counts would treat an item as
    S independent ones; by majority each item counts once. The p-value is about other items of the
    same kind for these trained models, not about other seeds.

    Args:
        a_items: seed to items of method A.
        b_items: of method B; seeds that only one side has are left out.
        metric: one whose values are 0 and 1.

    Raises:
        DataError: if fewer than 2 seeds or items are shared, or the items are not the same.
    """
    seeds = _shared_seeds(a_items, b_items)
    return mcnemar(*(_majority([of[seed] for seed in seeds], metric) for of in (a_items, b_items)))


def _majority(of_seeds: "Sequence[Sequence[Item]]", metric: "Metric") -> list[bool]:
    answers = zip(*of_seeds, strict=True)
    return [2 * sum(map(metric.value, answer)) > len(of_seeds) for answer in answers]


def _shared_seeds(
    a_items: "Mapping[int, Sequence[Item]]", b_items: "Mapping[int, Sequence[Item]]"
) -> list[int]:
    seeds = sorted(a_items.keys() & b_items.keys())
    if len(seeds) < 2:
        raise DataError(f"at least 2 shared seeds are needed, got {len(seeds)}")
    for seed in seeds:
        check_pairs(a_items[seed], b_items[seed])
        check_pairs(a_items[seeds[0]], a_items[seed])
    return seeds


def _table(
    a_items: "Mapping[int, Sequence[Item]]",
    b_items: "Mapping[int, Sequence[Item]]",
    metric: "Metric",
) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    import numpy as np

    seeds, value = _shared_seeds(a_items, b_items), metric.value
    differences_SI = np.array(
        [
            [value(a) - value(b) for a, b in zip(a_items[seed], b_items[seed], strict=True)]
            for seed in seeds
        ]
    )
    refuse_nan(differences_SI.ravel())
    weights = [metric.weight(item) for item in a_items[seeds[0]]]
    return differences_SI, np.array(weights, dtype=np.float64)


def _mean_and_half_width(
    differences_SI: "NDArray[np.float64]", weights_I: "NDArray[np.float64]", confidence: float
) -> tuple[float, float]:
    mean = float(differences_SI.sum() / (len(differences_SI) * weights_I.sum()))
    return mean, _half_width((differences_SI - mean * weights_I) / weights_I.mean(), confidence)


def _half_width(residual_SI: "NDArray[np.float64]", confidence: float) -> float:
    from scipy.stats import t as student

    seeds, items = residual_SI.shape
    seed_means, item_means = residual_SI.mean(axis=1), residual_SI.mean(axis=0)
    rest_SI = residual_SI - seed_means[:, None] - item_means + residual_SI.mean()
    ms_seed = items * float(seed_means.var(ddof=1))
    ms_item = seeds * float(item_means.var(ddof=1))
    ms_rest = float((rest_SI**2).sum()) / ((seeds - 1) * (items - 1))
    variance = max(ms_seed + ms_item - ms_rest, ms_seed, ms_item) / (seeds * items)
    if variance == 0:
        return 0.0
    freedom = (ms_seed + ms_item) ** 2 / (ms_seed**2 / (seeds - 1) + ms_item**2 / (items - 1))
    return float(student.ppf((1 + confidence) / 2, freedom)) * math.sqrt(variance)


def _pigeonhole(
    differences_SI: "NDArray[np.float64]",
    weights_I: "NDArray[np.float64]",
    confidence: float,
    resamples: int,
    rng_seed: int,
) -> tuple[float, float]:
    import numpy as np

    generator = np.random.default_rng(rng_seed)
    seeds, items = differences_SI.shape
    means = []
    for _ in range(resamples):  # one at a time: resamples × items may not fit into memory
        of_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds))
        of_item = np.bincount(generator.integers(0, items, items), minlength=items)
        means.append((of_seed @ differences_SI @ of_item) / (seeds * (weights_I @ of_item)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
