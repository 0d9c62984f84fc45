"""From values to places on a drawing, and the ticks between."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map of ``low..high`` to ``start..end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        share = (self._at(value) - self._at(self.low)) / (self._at(self.high) - self._at(self.low))
        return self.start + share * (self.end - self.start)

    def _at(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside the range, about ``count``."""
        return _log_ticks(self.low, self.high) if self.log else _ticks(self.low, self.high, count)


def _ticks(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    few = high / low < 40
    every = max(1, len(powers) // 6)
    wanted = [10.0**p * m for p in list(powers)[::every] for m in ((1, 2, 5) if few else (1,))]
    return [tick for tick in wanted if low * 0.999 <= tick <= high * 1.001]


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that are numbers."""
    return [v for v in values if v is not None and math.isfinite(v)]


def fit(
    values: Sequence[float], start: float, end: float, *, log: bool = False, room: float = 0.05
) -> Scale:
    """A scale over all values, with some room at both ends.

    Args:
        values: at least one; above 0 if ``log``.
        start: place of the low end.
        end: place of the high end.
        log: logarithmic.
        room: share of the range that stays empty at each end.
    """
    low, high = min(values), max(values)
    if log:
        ratio = max(high / low, 1.5) ** room
        return Scale(low / ratio, high * ratio, start, end, log=True)
    spread = (high - low) or abs(high) or 1.0
    return Scale(low - room * spread, high + room * spread, start, end)


def spread_out(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move labels apart until they are ``gap`` from each other, in their order, in ``low..high``.

    Args:
        places: where they would stand, in any order.
        gap: least distance; shrinks if they do not fit.
        low: least place.
        high: greatest place.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    gap = min(gap, (high - low) / max(1, len(places) - 1))
    moved = list(places)
    floor = low
    for i in order:
        moved[i] = max(places[i], floor)
        floor = moved[i] + gap
    ceiling = high
    for i in reversed(order):
        moved[i] = min(moved[i], ceiling)
        ceiling = moved[i] - gap
    return moved
