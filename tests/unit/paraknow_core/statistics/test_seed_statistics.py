"""Comparisons over seeds: coverage, false-positive rate and power on data of known truth.

``pytest -s`` on this file prints the table of docs/statistics.md.
"""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct, t

from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.statistics.design import describe_design, holm, largest_family, smallest_p
from paraknow_core.statistics.paired_seeds import (
    compare_seeds,
    detectable_difference,
    effect_size,
    seed_interval,
    seed_test,
)

DRAWS = {
    "normal": lambda g, n: g.standard_normal(n),
    "heavy-tailed": lambda g, n: g.standard_t(5, n),
    "skewed": lambda g, n: g.gamma(2.0, 1.0, n) - 2.0,
}


def compare(differences, **settings):
    a = {seed: float(value) for seed, value in enumerate(differences)}
    return compare_seeds(a, dict.fromkeys(a, 0.0), **settings)


@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.parametrize("shape", list(DRAWS))
def test_the_printed_interval_covers_the_truth(n: int, shape: str) -> None:
    """400 simulations: ± .012; .90 is three such errors below the measured .94."""
    generator = np.random.default_rng(n)
    covered = normal_t = percentile = 0
    for _ in range(400):
        d = DRAWS[shape](generator, n) + 0.3
        low, high, _ = seed_interval(d, 0.95, 600, 0)
        covered += low <= 0.3 <= high
        normal_t += abs(d.mean() - 0.3) <= t.ppf(0.975, n - 1) * d.std(ddof=1) / math.sqrt(n)
        means = d[generator.integers(0, n, (600, n))].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        percentile += low <= 0.3 <= high
    print(f"\ncoverage n={n} {shape}: {covered / 400:.3f}", end=" ")  # noqa: T201
    print(f"t {normal_t / 400:.3f} percentile {percentile / 400:.3f}")  # noqa: T201
    assert covered / 400 >= 0.90
    assert percentile < covered  # why it is not the one that is printed


@pytest.mark.parametrize("n", [5, 6, 8])
def test_level_and_power_of_the_test(n: int) -> None:
    generator = np.random.default_rng(n)
    delta = detectable_difference(1.0, n)
    runs = 400
    false = sum(seed_test(generator.standard_normal(n)) < 0.05 for _ in range(runs)) / runs
    found = (
        sum(seed_test(generator.standard_normal(n) + (delta or 9)) < 0.05 for _ in range(runs))
        / runs
    )
    print(f"\nn={n}: false positives {false:.3f}, detectable {delta} SD, found {found:.3f}")  # noqa: T201
    assert false <= 0.08
    if n == 5:
        assert delta is None
        assert false == found == 0
    else:
        assert 0.64 <= found <= 0.87


def test_the_test_counts_every_pattern_of_signs() -> None:
    d = np.array([0.5, -0.1, 0.3, 0.4, 0.2, 0.25, 0.6])
    flips = [
        abs(sum(s * x for s, x in zip(signs, d, strict=True)))
        for signs in product((1, -1), repeat=7)
    ]
    assert seed_test(d) == pytest.approx(np.mean(np.array(flips) >= abs(d.sum()) - 1e-12))
    assert seed_test(np.ones(8)) == smallest_p(8) == 2 / 2**8
    assert seed_test(np.arange(1.0, 15.0)) == smallest_p(14)  # more patterns than resamples
    assert 0 < seed_test(np.ones(30), resamples=999) <= 2 / 1000


def test_what_a_design_can_show() -> None:
    assert smallest_p(5) == 0.0625
    assert [largest_family(n) for n in (1, 5, 6, 8, 10)] == [0, 0, 1, 6, 25]
    assert "p = 0.0625" in describe_design(5)
    assert "cannot be reached" in describe_design(5)
    assert describe_design(8, family=6).endswith("can be reached.")
    assert "0.0547 after Holm's correction for 7" in describe_design(8, family=7)
    assert "cannot be reached" in describe_design(8, family=7)


def test_the_detectable_difference_has_its_power() -> None:
    """At n = 8 the attainable level is 6 · 2/2**8 = .0469."""
    delta = detectable_difference(0.03, 8)
    critical = t.ppf(1 - 6 * 2 / 2**8 / 2, 7)
    assert nct.sf(critical, 7, delta / 0.03 * math.sqrt(8)) == pytest.approx(0.8, abs=1e-4)
    assert detectable_difference(0.06, 8) == pytest.approx(2 * delta)
    assert detectable_difference(0.03, 12) < delta
    assert detectable_difference(0.03, 8, alpha=0.005) is None
    assert detectable_difference(0.0, 8) == 0.0


def slow_holm(p: list[float], alpha: float) -> list[bool]:
    """The step-down procedure as Holm wrote it."""
    order = sorted(range(len(p)), key=p.__getitem__)
    rejected = [False] * len(p)
    for place, index in enumerate(order):
        if p[index] > alpha / (len(p) - place):
            break
        rejected[index] = True
    return rejected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    adjusted = holm(dict(enumerate(p)))
    assert list(adjusted) == list(range(len(p)))
    close = any(abs(value - alpha) < 1e-9 for value in adjusted.values())
    assert close or [adjusted[i] <= alpha for i in range(len(p))] == slow_holm(p, alpha)


def test_holm_example_and_bounds() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({}) == {}
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            holm({"a": wrong})


def test_holm_keeps_the_level_of_the_family() -> None:
    """Four true null hypotheses that share the transfer's own noise, 8 seeds."""
    generator = np.random.default_rng(4)
    wrong = 0
    for _ in range(300):
        transfer, others = generator.standard_normal(8), generator.standard_normal((4, 8))
        wrong += (
            min(holm({i: seed_test(transfer - o) for i, o in enumerate(others)}).values()) < 0.05
        )
    assert wrong / 300 <= 0.085


def test_effect_size_interval_covers() -> None:
    generator = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        _, low, high = effect_size(generator.normal(1.0, 1.0, 8))
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 200 <= 0.99
    d = generator.normal(1.0, 1.0, 8)
    value, low, high = effect_size(d)
    assert value == pytest.approx(d.mean() / d.std(ddof=1))
    assert effect_size(-d) == pytest.approx((-value, -high, -low))
    assert nct.cdf(value * math.sqrt(8), 7, low * math.sqrt(8)) == pytest.approx(0.975, abs=1e-5)


def test_differences_that_do_not_vary() -> None:
    c = compare([0.1] * 8)
    assert (c.low, c.high, c.interval, c.sd) == (pytest.approx(0.1), pytest.approx(0.1), "t", 0.0)
    assert (c.effect, c.effect_low, c.effect_high) == (None, None, None)
    none = compare([0.0] * 8)
    assert (none.mean, none.low, none.high, none.p_value, none.wins) == (0, 0, 0, 1, 0)
    almost = compare([1.0, 1.001] * 4)
    assert almost.effect > 100
    assert almost.effect_low is None


def test_few_distinct_values_fall_back_to_t() -> None:
    c = compare([0.01, 0.01, 0.01, 0.01, 0.02])
    assert c.interval == "t"
    assert (c.low, c.high) == (c.t_low, c.t_high)


def test_seeds_are_paired_by_name_and_the_result_repeats() -> None:
    a = {3: 1.0, 1: 2.0, 2: 4.0, 9: 0.0}
    b = {1: 1.0, 2: 2.0, 3: 3.0, 7: 0.0}
    c = compare_seeds(a, b)
    assert (c.n, c.left_out, c.wins) == (3, (7, 9), 1)
    assert c.mean == pytest.approx(1 / 3)
    assert c == compare_seeds(dict(sorted(a.items())), b)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(DataError, match=r"share 1 seed\(s\)"):
        compare_seeds({1: 0.0, 2: 0.0}, {1: 0.0})
    with pytest.raises(NumericsError, match="1 of 2 differences are NaN"):
        compare([1.0, math.nan])
    with pytest.raises(ConfigError, match=r"got 1\.0"):
        compare([1.0, 2.0], confidence=1.0)
    with pytest.raises(ConfigError, match="got 5"):
        compare([1.0, 2.0], resamples=5)
