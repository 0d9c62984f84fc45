"""Which learning rates are tried with which seeds, and which is best: one rule for every method."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from paraknow_core.learning_rates import is_rate

TriedRate = tuple[float, int]
"""A learning rate and the seed that it is tried with."""
Losses = Mapping[TriedRate, float]
"""TriedRate → loss on validation; infinite for one that diverged or failed."""

LEAST_SURVIVORS = 2
"""Rates that are left to choose among, however often the grid is halved."""


@dataclass(frozen=True)
class RateSearch:
    """A search over learning rates, on validation alone.

    All rates are tried with the first seed. While the best one is the least or greatest that was
    tried, the grid goes on beyond it, by its own ratio, as often as ``extensions`` allows. With
    ``refine`` the geometric means of the best one and its neighbours are tried too: the step that a
    method's true best rate may be beside the grid is then half as long. Then come the other seeds,
    one after another; with ``halving`` the better half of the rates goes on to each (successive
    halving, arXiv 1502.07943), and is extended in the same way. The best rate has the least mean
    loss over all seeds.

    Attributes:
        rates: the grid to begin with.
        seeds: of the trials; without any there is nothing to try.
        halving: whether only the better half goes on to the next seed.
        extensions: how many rates may be added to the ends of the grid.
        refine: whether rates between the best one and its neighbours are added.
    """

    rates: Sequence[float]
    seeds: Sequence[int]
    halving: bool = True
    extensions: int = 4
    refine: bool = True

    def wanted(self, losses: Losses) -> list[TriedRate]:
        """The trials to be made next, side by side; none once the search is over.

        Args:
            losses: of every trial so far.
        """
        return self._follow(losses)[0]

    def best(self, losses: Losses) -> float | None:
        """The rate of least mean loss; None while the search goes on, or if none can be trained.

        Of two that are equal the lower one.
        """
        wanted, left = self._follow(losses)
        return None if wanted else self._best(left, self.seeds, losses)

    def at_edge(self, losses: Losses) -> bool:
        """Whether the best rate is the least or greatest that was tried: a better may lie beyond.

        A single rate that is given has no edge.
        """
        tried, best = {rate for rate, _ in losses}, self.best(losses)
        return best is not None and len(tried) > 1 and best in (min(tried), max(tried))

    def without_surprise(self) -> list[TriedRate]:
        """The trials of a search that never leaves its grid: what a plan can foresee.

        Which rates go on, or lie beside the best, is not known then; the first ones stand for them.
        """
        found: list[TriedRate] = []
        active = sorted(self.rates)
        if len(active) > LEAST_SURVIVORS:
            active = sorted([*active, *self._between(active[1], active)])
        for seed in self.seeds:
            found += [(rate, seed) for rate in active]
            active = active[: self._survivors(len(active))]
        return found

    def most(self) -> int:
        """The most trials that it can come to."""
        grid = len(self.without_surprise())
        return grid + self.extensions * len(self.seeds)

    def _follow(self, losses: Losses) -> tuple[list[TriedRate], list[float]]:
        """Go through the search as far as losses are known: trials to make, rates in the race."""
        active, tried, ends = sorted(self.rates), sorted(self.rates), 0
        is_refined = False
        for place, _ in enumerate(self.seeds, start=1):
            seeds = self.seeds[:place]
            while True:
                missing = [t for t in ((r, s) for s in seeds for r in active) if t not in losses]
                if missing:
                    return missing, active
                best = self._best(active, seeds, losses)
                more = self._beyond(best, tried) if ends < self.extensions else []
                ends += len(more)
                if not more and not is_refined:
                    more, is_refined = self._between(best, tried), True
                if not more:
                    break
                active, tried = sorted([*active, *more]), sorted([*tried, *more])
            if place < len(self.seeds):
                active = self._better_half(active, seeds, losses)
        return [], active

    def _beyond(self, best: float | None, tried: Sequence[float]) -> list[float]:
        """The next rate beyond the best one, if that lies at an end of what was tried."""
        grid = sorted(self.rates)
        if best is None or len(grid) < LEAST_SURVIVORS or best not in (tried[0], tried[-1]):
            return []
        ratio = grid[0] / grid[1] if best == tried[0] else grid[-1] / grid[-2]
        beyond = _rounded(best * ratio)
        return [beyond] if is_rate(beyond) and beyond not in tried else []

    def _between(self, best: float | None, tried: Sequence[float]) -> list[float]:
        """The rates halfway, in ratio, from the best one to its neighbours."""
        if not self.refine or best is None:
            return []
        place = tried.index(best)
        beside = (*tried[max(0, place - 1) : place], *tried[place + 1 : place + 2])
        return [rate for one in beside if (rate := _rounded(math.sqrt(best * one))) not in tried]

    def _better_half(
        self, active: Collection[float], seeds: Sequence[int], losses: Losses
    ) -> list[float]:
        """Those that go on; one that diverged cannot win any more, and goes on nowhere."""
        ordered = sorted(active, key=lambda rate: (_mean(rate, seeds, losses), rate))
        first = ordered[: self._survivors(len(ordered))]
        return sorted(rate for rate in first if math.isfinite(_mean(rate, seeds, losses)))

    def _survivors(self, count: int) -> int:
        if not self.halving:
            return count
        return min(count, max(LEAST_SURVIVORS, math.ceil(count / 2)))

    @staticmethod
    def _best(active: Iterable[float], seeds: Sequence[int], losses: Losses) -> float | None:
        means = {rate: _mean(rate, seeds, losses) for rate in active}
        finite = {rate: mean for rate, mean in means.items() if math.isfinite(mean)}
        return min(finite, key=lambda rate: (finite[rate], rate)) if finite else None


def _mean(rate: float, seeds: Sequence[int], losses: Losses) -> float:
    return math.fsum(losses[rate, seed] for seed in seeds) / len(seeds)


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")
