"""Is one model better than another on the same items, and what may be said about it.

Everything here is about the items of one test split and two trained models. It says nothing of
other training seeds, nor of why the models differ.

Legend: n = number of paired items.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paraknow_core.errors import ConfigError, DataError, NumericsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from paraknow_core.evaluation.items import Item
    from paraknow_core.evaluation.metric import Metric

MIN_ITEMS = 6
"""Below six pairs no sign-flip test reaches p < .05: the smallest is 2 / 2**5 = .0625."""

_BATCH_NUMBERS = 2_000_000
"""Numbers held at once while resampling (16 MB), instead of resamples × n."""


@dataclass(frozen=True)
class PairedDifference:
    """A minus B on the same ``n`` items, with its confidence interval and two-sided p-value."""

    mean: float
    low: float
    high: float
    p_value: float
    n: int
    confidence: float

    @property
    def visible(self) -> bool:
        """Whether interval and test both exclude "no difference"."""
        excludes_zero = self.low > 0 or self.high < 0
        return excludes_zero and self.p_value < 1 - self.confidence


@dataclass(frozen=True)
class McNemar:
    """Items that only A or only B got right, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p_value: float


def paired_difference(
    a_items: "Sequence[Item]",
    b_items: "Sequence[Item]",
    metric: "Metric",
    *,
    seed: int,
    confidence: float = 0.95,
    resamples: int = 10_000,
) -> PairedDifference:
    """Difference of a metric, in its unit: Σ(value_a − value_b) / Σweight.

    Items are resampled with their weights, so a long answer weighs as much as in the metric.
    Interval: paired percentile bootstrap (Efron 1979; BCa covered no better here: 94 % against
    95 % at n = 60). p: the values of an item are exchanged between A and B (sign flips), exactly
    where 2**n ≤ resamples; for a metric whose values are 0 and 1, McNemar's exact test.

    Args:
        a_items: of the one model.
        b_items: of the other, the same rows in the same order.
        metric: one without a transform.
        seed: of the resampling.
        confidence: of the interval, between 0 and 1.
        resamples: for the interval and for the test.

    Raises:
        DataError: if the items are not pairs, or fewer than 2.
        NumericsError: if a value is NaN or infinite.
        ConfigError: for a confidence or a number of resamples out of range.
    """
    import numpy as np

    check_pairs(a_items, b_items)
    a_values, b_values = (np.array([metric.value(i) for i in of]) for of in (a_items, b_items))
    differences = a_values - b_values
    weights = np.array([metric.weight(item) for item in a_items], dtype=np.float64)
    low, high = _interval(differences, weights, seed, confidence, resamples)
    if metric.is_binary:
        p_value = mcnemar([v == 1 for v in a_values], [v == 1 for v in b_values]).p_value
    else:
        p_value = sign_flip(differences, seed, resamples)
    return PairedDifference(
        mean=float(differences.sum() / weights.sum()),
        low=low,
        high=high,
        p_value=p_value,
        n=len(differences),
        confidence=confidence,
    )


def mcnemar(correct_a: Sequence[bool], correct_b: Sequence[bool]) -> McNemar:
    """Exact McNemar test: of the items that only one got right, is A's share one half?

    Raises:
        DataError: if the sequences differ in length or are empty.
    """
    from scipy.stats import binomtest

    if len(correct_a) != len(correct_b) or not correct_a:
        raise DataError(
            f"McNemar's test needs the same items on both sides, got {len(correct_a)} and "
            f"{len(correct_b)}"
        )
    only_a = sum(a and not b for a, b in zip(correct_a, correct_b, strict=True))
    only_b = sum(b and not a for a, b in zip(correct_a, correct_b, strict=True))
    if only_a + only_b == 0:
        return McNemar(0, 0, 1.0)
    return McNemar(only_a, only_b, float(binomtest(only_a, only_a + only_b).pvalue))


def describe_difference(
    name_a: str,
    name_b: str,
    difference: PairedDifference,
    metric: "Metric",
) -> str:
    """One or two sentences that claim no more than the numbers show.

    Args:
        name_a: of the model whose values were the first argument.
        name_b: of the other.
        difference: A minus B.
        metric: of which it is the difference.
    """
    numbers = (
        f"{difference.mean:+.4g}, {100 * difference.confidence:g} % interval "
        f"{difference.low:+.4g} to {difference.high:+.4g}, p = {difference.p_value:.2g}, "
        f"{difference.n} items"
    )
    if difference.n < MIN_ITEMS:
        return (
            f"{difference.n} items are too few to tell {name_a} from {name_b} in {metric.title} "
            f"({numbers}): at least {MIN_ITEMS} are needed for p < .05."
        )
    if not difference.visible:
        return f"No difference visible between {name_a} and {name_b} in {metric.title} ({numbers})."
    better = metric.is_better(difference.mean)
    return (
        f"{name_a} is {'better' if better else 'worse'} than {name_b} in {metric.title} "
        f"({numbers}). This is about these two trained models on these items, not about other "
        "training seeds."
    )


def check_pairs(a_items: "Sequence[Item]", b_items: "Sequence[Item]") -> None:
    """Raise a DataError unless both hold the same rows in the same order, at least 2."""
    if len(a_items) != len(b_items):
        raise DataError(f"items must be pairs, got {len(a_items)} and {len(b_items)}")
    if len(a_items) < 2:
        raise DataError(f"at least 2 pairs of items are needed, got {len(a_items)}")
    for a, b in zip(a_items, b_items, strict=True):
        if (a.id, a.prompt, a.answer, a.tokens) != (b.id, b.prompt, b.answer, b.tokens):
            raise DataError(
                f"items must be the same rows in the same order: {a.id!r} ({a.tokens} tokens) "
                f"stands beside {b.id!r} ({b.tokens} tokens)"
            )


def _interval(
    values: "NDArray[np.float64]",
    weights: "NDArray[np.float64]",
    seed: int,
    confidence: float,
    resamples: int,
) -> tuple[float, float]:
    """Interval of Σvalues / Σweights, items resampled jointly."""
    import numpy as np
    from scipy.stats import bootstrap

    if not 0 < confidence < 1 or resamples < 100:
        raise ConfigError(
            f"confidence must be between 0 and 1 (got {confidence}) and resamples at least 100 "
            f"(got {resamples})"
        )
    refuse_nan(values)

    def statistic(value: Any, weight: Any, axis: int = -1) -> Any:
        return value.sum(axis=axis) / weight.sum(axis=axis)

    interval = bootstrap(
        (values, weights),
        statistic,
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=resamples,
        batch=_batch(values),
        confidence_level=confidence,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def sign_flip(values: "NDArray[np.float64]", seed: int, resamples: int) -> float:
    """Two-sided p of paired differences under flips of their signs; exact if 2**n ≤ resamples."""
    import numpy as np
    from scipy.stats import permutation_test

    def statistic(value: Any, axis: int = -1) -> Any:
        return value.sum(axis=axis)

    test = permutation_test(
        (values,),
        statistic,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=_batch(values),
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _batch(values: "NDArray[np.float64]") -> int:
    return max(1, _BATCH_NUMBERS // len(values))


def refuse_nan(values: "NDArray[np.float64]") -> None:
    """Raise a NumericsError that counts the NaN and infinite differences, if there are any."""
    import numpy as np

    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise NumericsError(
            f"{wrong.size} of {len(values)} differences are NaN or infinite (first at place "
            f"{wrong[0]}); a comparison with them would mean nothing"
        )
