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
    tried, the grid goes on beyond it, by its own ratio, as often as ``extensions`` allows. Then
    come the other seeds, one after another; with ``halving`` the better half of the rates goes on
    to each (successive halving, arXiv 1502.07943), and is extended in the same way. The best rate
    has the least mean loss over all seeds.

    Attributes:
        rates: the grid to begin with.
        seeds: of the trials; without any there is nothing to try.
        halving: whether only the better half goes on to the next seed.
        extensions: how many rates may be added to the grid.
    """

    rates: Sequence[float]
    seeds: Sequence[int]
    halving: bool = True
    extensions: int = 4

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

        Which rates go on is not known then; the first ones stand for them.
        """
        found: list[TriedRate] = []
        active = sorted(self.rates)
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
        active, tried = sorted(self.rates), sorted(self.rates)
        for place, _ in enumerate(self.seeds, start=1):
            seeds = self.seeds[:place]
            while True:
                missing = [t for t in ((r, s) for s in seeds for r in active) if t not in losses]
                if missing:
                    return missing, active
                beyond = self._beyond(self._best(active, seeds, losses), tried)
                if beyond is None:
                    break
                active, tried = sorted([*active, beyond]), sorted([*tried, beyond])
            if place < len(self.seeds):
                active = self._better_half(active, seeds, losses)
        return [], active

    def _beyond(self, best: float | None, tried: Sequence[float]) -> float | None:
        """The next rate beyond the best one, if that lies at an end of what was tried."""
        exhausted = len(tried) >= len(self.rates) + self.extensions
        if exhausted or len(tried) < LEAST_SURVIVORS or best not in (tried[0], tried[-1]):
            return None
        ratio = tried[0] / tried[1] if best == tried[0] else tried[-1] / tried[-2]
        beyond = float(f"{best * ratio:.3g}")
        return beyond if is_rate(beyond) and beyond not in tried else None

    def _better_half(
        self, active: Collection[float], seeds: Sequence[int], losses: Losses
    ) -> list[float]:
        ordered = sorted(active, key=lambda rate: (_mean(rate, seeds, losses), rate))
        return sorted(ordered[: self._survivors(len(ordered))])

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
