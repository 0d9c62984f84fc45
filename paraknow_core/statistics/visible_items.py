"""What a number of test items can show of a metric that is right or wrong of each, before a run."""

from paraknow_core.errors import ConfigError

DISAGREEING = (0.1, 0.3)
"""Shares of items on which two models are assumed to disagree: much alike, and rather different."""


def visible_share(
    items: int, *, disagreeing: float, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """The smallest true difference between two shares of right answers that McNemar's test sees.

    Two models answer the same n items; on a share ψ of all items of the kind only one of them is
    right, on (ψ + δ) / 2 the better one. The number of such items among n is binomial, and so is
    the better one's part of them; δ is where the exact two-sided test (McNemar 1947; its exact
    form: Fagerland, Lydersen & Laake 2013) rejects with the wanted probability.

    Args:
        items: n, of the test split, at least 1.
        disagreeing: ψ, above 0, at most 1. It is not known before a run.
        alpha: of the test, above 0 and below 1.
        power: the probability of seeing δ, above 0 and below 1.

    Returns:
        δ between 0 and ψ; None where not even δ = ψ is seen with that probability.

    Raises:
        ConfigError: for a value out of its range.
    """
    from scipy.optimize import brentq

    if items < 1 or not (0 < disagreeing <= 1 and 0 < alpha < 1 and 0 < power < 1):
        raise ConfigError(
            f"items must be at least 1 (got {items}), disagreeing above 0 and at most 1 (got "
            f"{disagreeing}), alpha and power between 0 and 1 (got {alpha} and {power})"
        )
    if _power(items, disagreeing, disagreeing, alpha) < power:
        return None
    return float(
        brentq(lambda delta: _power(items, disagreeing, delta, alpha) - power, 0.0, disagreeing)
    )


def _power(items: int, disagreeing: float, delta: float, alpha: float) -> float:
    """How probable it is that the test rejects."""
    import numpy as np
    from scipy.stats import binom

    least, most = (int(binom.ppf(tail, items, disagreeing)) for tail in (1e-9, 1 - 1e-9))
    counts = np.arange(least, most + 1)
    # The most items that the worse model may win alone with the test still rejecting; −1: none.
    critical = binom.ppf(alpha / 2, counts, 0.5) - 1
    better = (1 + delta / disagreeing) / 2
    rejected = binom.cdf(critical, counts, 1 - better) + binom.cdf(critical, counts, better)
    return float((binom.pmf(counts, items, disagreeing) * rejected).sum())
