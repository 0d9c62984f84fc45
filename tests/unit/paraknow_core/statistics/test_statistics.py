"""Intervals and tests on simulated data with known truth, and the words they are put into."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import comb

import numpy as np
import pytest

from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.statistics.paired_items import (
    PairedDifference,
    describe_difference,
    mcnemar,
    paired_difference,
)
from paraknow_core.statistics.visible_items import visible_share

NLL, MATCH = METRICS["answer_nll"], METRICS["exact_match"]


def items(nll: Sequence[float], tokens: Sequence[int], right: Sequence[bool] = ()) -> list[Item]:
    marks = list(right) or [False] * len(nll)
    return [
        Item(str(place), "p", "a", float(loss), int(size), "", "", "", correct=bool(mark))
        for place, (loss, size, mark) in enumerate(zip(nll, tokens, marks, strict=True))
    ]


def simulate(generator: np.random.Generator, n: int, truth: float) -> tuple[list[Item], list[Item]]:
    """Answers of 1–5 tokens; A's NLL is B's plus `truth` a token plus noise of heavy tails."""
    tokens = generator.integers(1, 6, n)
    nll_b = generator.gamma(2.0, 1.0, n) * tokens
    nll_a = nll_b + (truth + 0.3 * generator.standard_t(5, n)) * tokens
    return items(nll_a.tolist(), tokens.tolist()), items(nll_b.tolist(), tokens.tolist())


def test_intervals_cover_the_truth_and_tests_keep_their_level() -> None:
    """500 simulations: about ±.02 around .95 and .05; bounds are four such errors away."""
    generator = np.random.default_rng(0)
    covered = rejected = 0
    for seed in range(500):
        a, b = simulate(generator, 120, truth=0.1)
        difference = paired_difference(a, b, NLL, seed=seed, resamples=500)
        covered += difference.low <= 0.1 <= difference.high
        a, b = simulate(generator, 30, truth=0.0)
        rejected += paired_difference(a, b, NLL, seed=seed, resamples=199).p_value <= 0.05
    assert 0.91 <= covered / 500 <= 0.98
    assert 0.02 <= rejected / 500 <= 0.09


def test_a_real_difference_is_found_and_weighed_by_tokens() -> None:
    generator = np.random.default_rng(1)
    a, b = simulate(generator, 200, truth=-0.2)
    difference = paired_difference(a, b, NLL, seed=0)
    total = sum(item.tokens for item in a)
    assert difference.mean == pytest.approx((sum(i.nll for i in a) - sum(i.nll for i in b)) / total)
    assert difference.low < difference.mean < difference.high < 0
    assert difference.p_value < 0.001
    assert difference.visible
    assert paired_difference(a, b, NLL, seed=0) == difference


def test_few_items_are_tested_exactly() -> None:
    """The slow reference flips every subset of signs."""
    losses = [0.5, -0.1, 0.3, 0.4, 0.2, 0.25, 0.6]
    observed = abs(sum(losses))
    flips = [
        sum(s * x for s, x in zip(signs, losses, strict=True))
        for signs in product((1, -1), repeat=7)
    ]
    expected = sum(abs(total) >= observed - 1e-12 for total in flips) / 2**7
    difference = paired_difference(items(losses, [1] * 7), items([0.0] * 7, [1] * 7), NLL, seed=3)
    assert difference.p_value == pytest.approx(expected)


def test_equal_models_differ_in_nothing() -> None:
    same = items([1.0, 2.0, 3.0] * 3, [1, 2, 3] * 3)
    difference = paired_difference(same, same, NLL, seed=0)
    assert (difference.mean, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert difference.p_value == 1.0
    assert not difference.visible


def test_a_constant_difference_is_a_point() -> None:
    tokens = [1, 2, 3, 4] * 3
    difference = paired_difference(
        items([0.1 * t for t in tokens], tokens), items([0.0] * 12, tokens), NLL, seed=0
    )
    assert (difference.low, difference.high) == pytest.approx((0.1, 0.1))
    assert difference.p_value == pytest.approx(2 / 2**12)


def test_mcnemar_is_the_exact_binomial_test() -> None:
    a = [True] * 9 + [False] * 2 + [True] * 30
    b = [False] * 9 + [True] * 2 + [True] * 30
    result = mcnemar(a, b)
    tail = sum(comb(11, k) for k in range(3)) / 2**11
    assert (result.only_a, result.only_b) == (9, 2)
    assert result.p_value == pytest.approx(2 * tail)
    assert mcnemar([True, False], [True, False]).p_value == 1.0
    with pytest.raises(DataError, match="got 1 and 2"):
        mcnemar([True], [True, False])
    with pytest.raises(DataError, match="got 0 and 0"):
        mcnemar([], [])


def test_the_visible_share_is_that_of_every_possible_outcome() -> None:
    n, apart = 15, 0.9
    share = visible_share(n, disagreeing=apart, power=0.6)
    assert share is not None
    chances = (apart + share) / 2, (apart - share) / 2, 1 - apart
    seen = 0.0
    for a, b in product(range(n + 1), repeat=2):
        if a + b <= n and mcnemar(*wins(a, b, n)).p_value < 0.05:
            ways = comb(n, a) * comb(n - a, b)
            seen += ways * math.prod(p**k for p, k in zip(chances, (a, b, n - a - b), strict=True))
    assert seen == pytest.approx(0.6, abs=1e-6)
    assert visible_share(5, disagreeing=1) is None  # p is never below 2 / 2**5
    with pytest.raises(ConfigError, match="disagreeing above 0"):
        visible_share(10, disagreeing=0)


def wins(a: int, b: int, n: int) -> tuple[list[bool], list[bool]]:
    """Right answers of two models, of which each is right alone on so many of n items."""
    rest = [True] * (n - a - b)
    return [True] * a + [False] * b + rest, [False] * a + [True] * b + rest


def test_mcnemar_keeps_its_level() -> None:
    generator = np.random.default_rng(2)
    rejected = 0
    for _ in range(400):
        a, b = generator.random((2, 80)) < 0.6
        rejected += mcnemar(a.tolist(), b.tolist()).p_value <= 0.05
    assert rejected / 400 <= 0.07  # the exact test is conservative


def test_accuracy_difference() -> None:
    generator = np.random.default_rng(3)
    right_b = generator.random(300) < 0.4
    right_a = right_b | (generator.random(300) < 0.2)
    a, b = items([1.0] * 300, [1] * 300, right_a), items([1.0] * 300, [1] * 300, right_b)
    difference = paired_difference(a, b, MATCH, seed=0, resamples=1000)
    assert difference.mean == pytest.approx(right_a.mean() - right_b.mean())
    assert 0 < difference.low < difference.mean < difference.high < 1
    assert difference.p_value == mcnemar(right_a.tolist(), right_b.tolist()).p_value


def test_what_is_no_pair_is_refused() -> None:
    three = items([1.0, 2.0, 3.0], [1, 1, 1])
    for metric in (NLL, MATCH):
        compare = partial(paired_difference, metric=metric)
        with pytest.raises(DataError, match="got 3 and 2"):
            compare(three, three[:2], seed=0)
        with pytest.raises(DataError, match="at least 2 pairs"):
            compare(three[:1], three[:1], seed=0)
        with pytest.raises(DataError, match=r"same rows in the same order: '0'.*beside '2'"):
            compare(three, three[::-1], seed=0)
        with pytest.raises(DataError, match=r"'0' \(1 tokens\) stands beside '0' \(2 tokens\)"):
            compare(three, [replace(three[0], tokens=2), *three[1:]], seed=0)


def test_nan_and_bad_settings_are_refused() -> None:
    good = items([1.0, 2.0, 3.0], [1, 1, 1])
    broken = [good[0], replace(good[1], nll=math.nan), good[2]]
    with pytest.raises(NumericsError, match=r"1 of 3 differences .* place 1"):
        paired_difference(broken, good, NLL, seed=0)
    with pytest.raises(ConfigError, match=r"got 95"):
        paired_difference(good, good, NLL, seed=0, confidence=95)
    with pytest.raises(ConfigError, match=r"got 10\)"):
        paired_difference(good, good, NLL, seed=0, resamples=10)


def difference(mean: float, low: float, high: float, p: float, n: int = 500) -> PairedDifference:
    return PairedDifference(mean, low, high, p, n, 0.95)


@pytest.mark.parametrize(
    ("value", "higher", "words"),
    [
        (difference(-0.06, -0.09, -0.03, 0.001), False, "new is better than old"),
        (difference(-0.06, -0.09, -0.03, 0.001), True, "new is worse than old"),
        (difference(0.06, 0.03, 0.09, 0.001), False, "new is worse than old"),
        (difference(-0.01, -0.03, 0.01, 0.3), False, "No difference visible between new and old"),
        (difference(-0.01, -0.03, 0.0, 0.04), False, "No difference visible"),
        (difference(-0.01, -0.03, -0.001, 0.06), False, "No difference visible"),
        (difference(-0.5, -0.6, -0.4, 0.03, n=5), False, "5 items are too few"),
    ],
)
def test_sentences_claim_no_more_than_the_numbers(
    value: PairedDifference, higher: bool, words: str
) -> None:
    sentence = describe_difference("new", "old", value, MATCH if higher else NLL)
    assert words in sentence
    assert f"{value.mean:+.4g}, 95 % interval" in sentence
    assert f"{value.n} items" in sentence
    assert "teacher" not in sentence
    assert "knowledge" not in sentence
    assert ("not about other training seeds" in sentence) == value.visible * (value.n > 5)
