"""Laws of what steps take: fitted to times, they give the constants back that made them."""

import math
import random

import numpy as np
import pytest

from paraknow_core.errors import ParaknowError
from paraknow_core.inspection.laws import Law, SlotRates, exponent, fit_law
from paraknow_core.inspection.work import Work

TRUE = {"fixed": 0.3, "launches": 2e-3, "flops": 3e-11, "moved": 2e-10}


def works(count: int, seed: int = 0) -> list[Work]:
    draw = random.Random(seed)
    return [
        Work(
            flops=10 ** draw.uniform(8, 12),
            moved=10 ** draw.uniform(7, 11),
            launches=10 ** draw.uniform(0, 4),
        )
        for _ in range(count)
    ]


def taken(work: Work) -> float:
    return (
        TRUE["fixed"]
        + TRUE["launches"] * work.launches
        + TRUE["flops"] * work.flops
        + TRUE["moved"] * work.moved
    )


def test_exact_times_give_the_constants_back() -> None:
    law = fit_law(points := works(12), [taken(one) for one in points])
    assert dict(law.seconds_each) == pytest.approx(TRUE, rel=1e-5)
    assert law.factor == pytest.approx(1.0, abs=1e-6)
    assert law.seconds(points[3]) == pytest.approx(taken(points[3]), rel=1e-6)


def test_intervals_hold_the_true_constants_about_as_often_as_they_say() -> None:
    draw, held = np.random.default_rng(1), 0
    for trial in range(40):
        points = works(20, seed=trial)
        times = [taken(one) * math.exp(0.1 * draw.standard_normal()) for one in points]
        law = fit_law(points, times)
        assert law.factor == pytest.approx(math.exp(0.1), rel=0.08)
        low, high = law.intervals["flops"]
        held += low <= TRUE["flops"] <= high
    assert 33 <= held <= 40  # of a binomial of 40 and .95, fewer than one time in 500 otherwise


def test_a_term_that_explains_nothing_is_left_out() -> None:
    points = works(12)
    law = fit_law(points, [TRUE["flops"] * one.flops for one in points])
    assert set(law.seconds_each) == {"flops"}
    assert law.seconds_each["flops"] == pytest.approx(TRUE["flops"], rel=1e-3)


def test_what_cannot_be_fitted_is_refused() -> None:
    points = works(4)
    with pytest.raises(ParaknowError, match="4 terms was to be fitted to 4 measured times"):
        fit_law(points, [1.0] * 4)
    with pytest.raises(ParaknowError, match="must be above zero"):
        fit_law(works(8), [1.0] * 7 + [0.0])
    with pytest.raises(ParaknowError, match="measure at least"):
        fit_law([], [])


def test_an_exponent_has_its_interval() -> None:
    sizes = [1.0, 2.0, 4.0, 8.0]
    found = exponent(sizes, [3 * x**1.5 for x in sizes])
    assert (found.value, found.low, found.high) == pytest.approx((1.5, 1.5, 1.5))
    noisy = exponent(sizes, [1.0, 2.2, 3.7, 8.4])
    assert noisy.low < 1.0 < noisy.high
    # The same by the textbook: slope ± t₀.₉₇₅ with 2 degrees of freedom × its standard error.
    x, y = np.log(sizes), np.log([1.0, 2.2, 3.7, 8.4])
    slope, offset = np.polyfit(x, y, 1)
    error = math.sqrt(((y - slope * x - offset) ** 2).sum() / 2 / ((x - x.mean()) ** 2).sum())
    assert noisy.high == pytest.approx(slope + 4.302653 * error)


def test_a_step_has_its_own_law_and_others_the_rates() -> None:
    work = Work(flops=6e9, moved=4e9, launches=10)
    rates = SlotRates(3e9, 1e9, 2e9, "told", {"finetune": Law({"fixed": 1.0, "launches": 0.5})})
    assert rates.seconds("finetune", work) == 6.0
    assert rates.seconds("evaluate", work) == 2.0 + 2.0
