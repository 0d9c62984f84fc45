"""The search over learning rates: what is tried, what is added to the grid, which rate is best."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from paraknow_core.statistics.rate_search import RateSearch, TriedRate

GRID = (1e-3, 3e-3, 1e-2, 3e-2)


def on_the_grid(seeds: tuple[int, ...] = (1000,), **options: Any) -> RateSearch:
    """A search that adds nothing between the rates of its grid."""
    return RateSearch(GRID, seeds, refine=False, **options)


def carried_out(search: RateSearch, loss: Callable[[float, int], float]) -> dict[TriedRate, float]:
    """Make every wanted trial; fails if one is wanted twice."""
    losses: dict[TriedRate, float] = {}
    while wanted := search.wanted(losses):
        assert not set(wanted) & losses.keys()
        assert len(set(wanted)) == len(wanted)
        losses |= {(rate, seed): loss(rate, seed) for rate, seed in wanted}
    return losses


def valley(bottom: float) -> Callable[[float, int], float]:
    return lambda rate, _seed: math.log(rate / bottom) ** 2


def test_a_best_rate_inside_the_grid_takes_the_grid_alone() -> None:
    search = on_the_grid()
    losses = carried_out(search, valley(3e-3))
    assert set(losses) == {(rate, 1000) for rate in GRID}
    assert search.best(losses) == 3e-3
    assert not search.at_edge(losses)


@pytest.mark.parametrize(
    ("bottom", "added"), [(0.3, (0.09, 0.27, 0.81)), (1e-4, (3.33e-4, 1.11e-4, 3.7e-5))]
)
def test_the_grid_goes_on_until_the_best_rate_lies_inside(
    bottom: float, added: tuple[float, ...]
) -> None:
    search = on_the_grid()
    losses = carried_out(search, valley(bottom))
    assert {rate for rate, _ in losses} - set(GRID) == set(added)
    assert search.best(losses) == pytest.approx(added[1])
    assert not search.at_edge(losses)


def test_it_goes_on_only_so_far_and_says_that_it_ended_at_the_edge() -> None:
    search = on_the_grid(extensions=2)
    losses = carried_out(search, valley(1e3))
    assert len(losses) == len(GRID) + 2
    assert search.best(losses) == max(rate for rate, _ in losses)
    assert search.at_edge(losses)
    assert not RateSearch((1e-3,), (1000,)).at_edge({(1e-3, 1000): 1.0})


def test_a_rate_that_diverges_ends_its_side() -> None:
    search = on_the_grid()
    losses = carried_out(search, lambda rate, _: math.inf if rate > 0.05 else -rate)
    assert {rate for rate, _ in losses} - set(GRID) == {0.09}
    assert search.best(losses) == 3e-2
    assert not search.at_edge(losses)


def test_the_better_half_goes_on_to_further_seeds() -> None:
    search = on_the_grid((1, 2, 3))
    noise = {(3e-3, 1): 0.0, (1e-2, 1): 0.1, (3e-3, 2): 1.0, (3e-3, 3): 2.0}
    losses = carried_out(
        search, lambda rate, seed: noise.get((rate, seed), 0.3 + abs(math.log(rate / 5e-3)))
    )
    tried = {seed: {rate for rate, s in losses if s == seed} for seed in (1, 2, 3)}
    assert tried == {1: set(GRID), 2: {3e-3, 1e-2}, 3: {3e-3, 1e-2}}
    means = {r: sum(losses[r, s] for s in (1, 2, 3)) / 3 for r in (3e-3, 1e-2)}
    assert search.best(losses) == min(means, key=means.__getitem__) == 1e-2
    assert len(losses) == len(search.without_surprise()) == 8


def test_without_halving_every_rate_is_tried_with_every_seed() -> None:
    search = on_the_grid((1, 2), halving=False)
    losses = carried_out(search, valley(3e-3))
    assert set(losses) == {(rate, seed) for rate in GRID for seed in (1, 2)}
    assert set(search.without_surprise()) == set(losses)


def test_a_rate_that_is_added_later_is_tried_with_the_earlier_seeds_too() -> None:
    search = on_the_grid((1, 2))
    losses = carried_out(
        search, lambda rate, seed: abs(math.log(rate / 1e-2)) if seed == 1 else -100 * rate
    )
    added = {rate for rate, _ in losses} - set(GRID)
    assert added
    assert all({seed for r, seed in losses if r == rate} == {1, 2} for rate in added)
    assert len(losses) <= search.most()


@pytest.mark.parametrize(
    ("bottom", "added"),
    [
        (3.5e-3, {1.73e-3, 5.48e-3}),
        (0.12, {9e-2, 0.27, 0.052, 0.156}),  # the grid goes on first
        (1e-9, {3.33e-4, 1.11e-4, 1.92e-4}),  # at the edge there is one neighbour
    ],
)
def test_rates_beside_the_best_one_are_tried_too(bottom: float, added: set[float]) -> None:
    search = RateSearch(GRID, (1000,), extensions=2)
    losses = carried_out(search, valley(bottom))
    assert {rate for rate, _ in losses} - set(GRID) == added
    best = search.best(losses)
    assert best == min((rate for rate, _ in losses), key=lambda rate: abs(math.log(rate / bottom)))
    assert search.at_edge(losses) is (bottom < 1e-8)


def test_after_refining_the_grid_goes_on_by_its_own_step() -> None:
    search = RateSearch(GRID, (1, 2))
    first = {1e-3: 9.0, 3e-3: 8.0, 5.48e-3: 5.0, 1e-2: 0.0, 1.73e-2: 0.5, 3e-2: 1.0}
    losses = carried_out(
        search, lambda rate, seed: first.get(rate, 2.0) if seed == 1 else 7.0 * (rate < 3e-2)
    )
    assert {rate for rate, _ in losses} == {*first, 9e-2}
    assert {rate for rate, seed in losses if seed == 2} == {1e-2, 1.73e-2, 3e-2, 9e-2}
    assert len(losses) == len(search.without_surprise()) + 2 <= search.most()


def test_a_rate_that_diverged_goes_on_to_no_further_seed() -> None:
    alone = on_the_grid((1, 2), extensions=0)
    losses = carried_out(alone, lambda rate, _: math.inf if rate > 1e-3 else 1.0)
    assert set(losses) == {*((rate, 1) for rate in GRID), (1e-3, 2)}
    assert alone.best(losses) == 1e-3


def test_a_search_that_is_not_over_has_no_best_rate() -> None:
    search = RateSearch(GRID, (1,))
    assert search.best({(1e-3, 1): 1.0}) is None
    assert search.wanted({(1e-3, 1): 1.0}) == [(rate, 1) for rate in GRID[1:]]


def test_nothing_is_best_where_all_diverged() -> None:
    search = RateSearch(GRID, (1, 2))
    losses = carried_out(search, lambda _rate, _seed: math.inf)
    assert search.best(losses) is None
    assert not search.at_edge(losses)


def test_without_seeds_there_is_nothing_to_try() -> None:
    assert RateSearch((1e-3,), ()).wanted({}) == []
