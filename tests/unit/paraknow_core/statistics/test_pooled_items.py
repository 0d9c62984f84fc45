"""Intervals over seeds and items together, on data whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.statistics.pooled_items import majority_mcnemar, pooled_difference

NLL, MATCH = METRICS["answer_nll"], METRICS["exact_match"]


def items(nll, tokens, right) -> list[Item]:
    return [
        Item(str(i), "p", "a", float(x), int(t), "", "", "", correct=bool(c))
        for i, (x, t, c) in enumerate(zip(nll, tokens, right, strict=True))
    ]


def simulate(g: np.random.Generator, *, seeds: int, n: int, seed_sd: float):
    """A token's NLL of A is B's plus .1, plus an effect of seed, of item, and of both."""
    tokens, of_item = g.integers(1, 5, n), 0.3 * g.standard_normal(n)
    easy = g.random(n)
    a, b = {}, {}
    for seed in range(seeds):
        d = 0.1 + seed_sd * g.standard_normal() + of_item + 0.3 * g.standard_normal(n)
        a[seed] = items(3 + d * tokens, tokens, g.random(n) < 0.5 * easy + 0.3)
        b[seed] = items(np.full(n, 3.0), tokens, g.random(n) < 0.5 * easy + 0.2)
    return a, b


@pytest.mark.parametrize(("seeds", "seed_sd"), [(5, 0.0), (5, 0.1), (8, 0.1)])
def test_the_interval_covers_the_truth(seeds: int, seed_sd: float) -> None:
    g = np.random.default_rng(seeds)
    nll = accuracy = boot = 0
    for _ in range(150):
        a, b = simulate(g, seeds=seeds, n=60, seed_sd=seed_sd)
        d = pooled_difference(a, b, metric=NLL, resamples=100)
        nll += d.low <= 0.1 <= d.high
        boot += d.bootstrap_low <= 0.1 <= d.bootstrap_high
        d = pooled_difference(a, b, metric=MATCH, resamples=100)
        accuracy += d.low <= 0.1 <= d.high
    print(f"\n{seeds} seeds, SD {seed_sd}:", nll / 150, accuracy / 150, boot / 150)  # noqa: T201
    assert nll / 150 >= 0.88
    assert accuracy / 150 >= 0.88


def test_means_are_those_of_the_metrics() -> None:
    a, b = simulate(np.random.default_rng(0), seeds=4, n=30, seed_sd=0.1)

    def nll(side, seed):
        return sum(i.nll for i in side[seed]) / sum(i.tokens for i in side[seed])

    d = pooled_difference(a, {**b, 77: b[0]}, metric=NLL)
    assert (d.seeds, d.items) == (4, 30)
    assert d.mean == pytest.approx(np.mean([nll(a, s) - nll(b, s) for s in range(4)]))
    assert d.low < d.mean < d.high
    assert d.bootstrap_low < d.mean < d.bootstrap_high
    assert d == pooled_difference(a, b, metric=NLL)
    right = [sum(i.correct for i in a[s]) - sum(i.correct for i in b[s]) for s in range(4)]
    assert pooled_difference(a, b, metric=MATCH).mean == pytest.approx(np.mean(right) / 30)


def test_seeds_that_differ_widen_the_interval() -> None:
    def width(seed_sd: float) -> float:
        a, b = simulate(np.random.default_rng(1), seeds=6, n=200, seed_sd=seed_sd)
        d = pooled_difference(a, b, metric=NLL, resamples=100)
        return d.high - d.low

    assert width(0.5) > 3 * width(0.0)


def test_equal_models_differ_in_nothing() -> None:
    a, _ = simulate(np.random.default_rng(2), seeds=3, n=10, seed_sd=0.1)
    d = pooled_difference(a, a, metric=NLL, resamples=100)
    assert (d.mean, d.low, d.high, d.bootstrap_low, d.bootstrap_high) == (0, 0, 0, 0, 0)


def test_what_is_no_pair_is_refused() -> None:
    a, b = simulate(np.random.default_rng(3), seeds=3, n=10, seed_sd=0.1)
    with pytest.raises(DataError, match="at least 2 shared seeds are needed, got 1"):
        pooled_difference(a, {0: b[0]}, metric=NLL)
    with pytest.raises(DataError, match="got 10 and 9"):
        pooled_difference(a, {**b, 1: b[1][:9]}, metric=NLL)
    other = {s: [replace(i, id="x" + i.id) for i in side] for s, side in ((1, a[1]), (2, b[1]))}
    with pytest.raises(DataError, match="same rows in the same order"):
        pooled_difference({**a, 1: other[1]}, {**b, 1: other[2]}, metric=NLL)
    broken = [replace(b[0][0], nll=float("nan")), *b[0][1:]]
    with pytest.raises(NumericsError, match="NaN"):
        pooled_difference(a, {**b, 0: broken}, metric=NLL)
    with pytest.raises(ConfigError, match="got 2"):
        pooled_difference(a, b, metric=NLL, confidence=2)


def right(rows: list[list[int]]) -> dict[int, list[Item]]:
    """One row of 0 and 1 per seed."""
    return {seed: items([1] * len(row), [1] * len(row), row) for seed, row in enumerate(rows)}


def test_mcnemar_counts_each_item_once_by_the_majority_of_seeds() -> None:
    a = right([[1, 1, 0, 1, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 0]])  # most: 1 1 0 1 0
    b = right([[0, 1, 1, 1, 0], [0, 1, 1, 0, 0], [1, 0, 1, 0, 0]])  # most: 0 1 1 0 0
    test = majority_mcnemar(a, {**b, 9: b[0]}, MATCH)
    assert (test.only_a, test.only_b) == (2, 1)
    assert test.p_value == 1.0
    tie = right([[1, 1], [0, 1]])
    assert (
        majority_mcnemar(tie, right([[0, 1], [0, 1]]), MATCH).only_a == 0
    )  # a tie is not a majority
    with pytest.raises(DataError, match="2 shared seeds"):
        majority_mcnemar(right([[1, 0]]), right([[1, 0]]), MATCH)


def test_mcnemar_of_majorities_keeps_its_level_and_sees_a_difference() -> None:
    g = np.random.default_rng(3)
    false, seen = 0, 0
    for _ in range(300):
        easy = g.random(60)
        rows = [[(g.random(60) < easy).astype(int).tolist() for _ in range(5)] for _ in range(2)]
        false += majority_mcnemar(right(rows[0]), right(rows[1]), MATCH).p_value < 0.05
        better = [(g.random(60) < easy + 0.25).astype(int).tolist() for _ in range(5)]
        seen += majority_mcnemar(right(better), right(rows[1]), MATCH).p_value < 0.05
    print("\nfalse", false / 300, "seen", seen / 300)  # noqa: T201
    assert false / 300 <= 0.08
    assert seen / 300 >= 0.5
