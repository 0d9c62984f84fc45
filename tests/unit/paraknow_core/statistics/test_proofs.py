"""Orders of pairs: the test along them, and what may be said."""

from itertools import permutations, product

import pytest

from paraknow_core.errors import DataError, NumericsError
from paraknow_core.statistics.proofs import PROOFS, MethodTrend, conclusion, corrected, rise
from paraknow_core.statistics.trend import trend

RISING = [{s: 2.0 - 0.1 * pair + s / 100 for s in range(6)} for pair in range(3)]
LEVEL = [{s: 2.0 + ((s * 7 + pair * 5) % 4) / 50 for s in range(6)} for pair in range(3)]


def pages_p(ranks: list[tuple[int, ...]]) -> float:
    """Page's L by counting every way in which the seeds could have been ranked."""
    seen = sum((place + 1) * rank for row in ranks for place, rank in enumerate(row))
    orders = list(permutations(range(1, len(ranks[0]) + 1)))
    sums = [
        sum((place + 1) * rank for row in rows for place, rank in enumerate(row))
        for rows in product(orders, repeat=len(ranks))
    ]
    return sum(value >= seen for value in sums) / len(sums)


def test_three_pairs_are_tested_by_pages_trend_test() -> None:
    ranks = [(1, 2, 3), (1, 3, 2), (2, 1, 3), (1, 2, 3)]
    values = [{seed: float(row[pair]) for seed, row in enumerate(ranks)} for pair in range(3)]
    up = trend(values, higher_is_better=True)
    assert up.p_value == pytest.approx(pages_p(ranks), abs=1e-12)
    assert up.rises
    assert up.means == (1.25, 2.0, 2.75)
    down = trend(values, higher_is_better=False)
    assert down.p_value == pytest.approx(pages_p([tuple(4 - r for r in row) for row in ranks]))
    assert not down.rises


def test_two_pairs_are_tested_by_sign_flips_over_shared_seeds() -> None:
    found = trend([RISING[0] | {9: 1.0}, RISING[1]], higher_is_better=False)
    assert (found.n, found.p_value, found.rises) == (6, 2 / 2**6, True)
    with pytest.raises(DataError, match="share 1 seed"):
        trend([{0: 1.0, 1: 2.0}, {0: 1.0}], higher_is_better=True)
    with pytest.raises(DataError, match="two pairs or more"):
        trend([{0: 1.0}], higher_is_better=True)
    with pytest.raises(NumericsError):
        trend([{0: 1.0, 1: float("nan")}] * 2, higher_is_better=True)


def of(**values: list[dict[int, float]]) -> list[MethodTrend]:
    return corrected(
        [
            MethodTrend(name, name.replace("_", "-"), trend(found, higher_is_better=False))
            for name, found in values.items()
        ]
    )


@pytest.mark.parametrize(
    ("control", "teachers_rise", "said"),
    [
        (LEVEL, True, "a teacher that learnt more gives a better student (Page’s trend test, adj"),
        (RISING, True, "gets better along the order"),
        (RISING, True, "but so does novel_random"),
        (LEVEL, False, "but the teachers’ own scores do not"),
        (LEVEL, None, "but the teachers’ own scores do not"),
    ],
)
def test_only_an_order_that_no_control_follows_speaks_for_the_teacher(
    control: list[dict[int, float]], teachers_rise: bool | None, said: str
) -> None:
    found = of(plain=[LEVEL[0]] * 3, novel_tokens=RISING, novel_random=control)
    plain, method, _ = (
        conclusion(PROOFS["dose"], one, found, teachers_rise=teachers_rise) for one in found
    )
    assert said in method
    assert "the same in every pair" in plain


def test_no_rise_is_not_shown_and_no_control_is_said() -> None:
    (level,) = of(novel_tokens=LEVEL)
    assert "not shown" in conclusion(PROOFS["dose"], level, [level], teachers_rise=True)
    (alone,) = of(novel_tokens=RISING)
    assert "no control of it ran" in conclusion(PROOFS["dose"], alone, [alone], teachers_rise=True)


def test_a_visible_fall_from_one_pair_to_another_is_told() -> None:
    (falling,) = of(novel_tokens=[RISING[-1], RISING[0]])
    assert "gets worse along" in conclusion(PROOFS["swap"], falling, [falling], teachers_rise=True)
    (one_sided,) = of(
        novel_tokens=RISING[::-1]
    )  # Page's test of three pairs looks for a rise alone
    assert "not shown" in conclusion(PROOFS["dose"], one_sided, [one_sided], teachers_rise=True)


def test_teachers_rise_where_each_is_better_than_the_one_before() -> None:
    assert rise([3.0, 2.0, 1.0], higher_is_better=False)
    assert rise([3.0, 1.0, 2.0], higher_is_better=False) is False
    assert rise([1.0, None], higher_is_better=True) is None
