"""How long steps take: a law of a few constants for each, fitted to measured times.

A step's seconds are a sum over the terms of its `Work`, each with a constant of the machine:
a fixed part (loading, writing), one for each layer or matrix that is taken up, one for each
operation and for each byte moved. The fit is by least squares on the logarithms, so that a time of
a tenth of a second counts as much as one of a minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from paraknow_core.errors import ParaknowError
from paraknow_core.inspection.work import Work

TERMS = ("fixed", "launches", "flops", "flops64", "moved")
"""Of which a step's seconds are the sum."""
_LEAST = 0.02
"""A term that is nowhere as large a part of the time is left out: its constant is not known."""
_SURE = 0.95
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """A step's seconds as a function of its work.

    Attributes:
        seconds_each: term → seconds for one of it; a term that is not there takes none.
        factor: by which the fitted points lie off, the root mean square of the logarithms as a
            factor: 1.1 is ten per cent.
        intervals: term → the 95 % interval of its constant.
    """

    seconds_each: Mapping[str, float]
    factor: float = 1.0
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def seconds(self, work: Work) -> float:
        """Return how long a step of that work takes."""
        amounts = dict(zip(TERMS, _amounts(work), strict=True))
        return sum(each * amounts[term] for term, each in self.seconds_each.items())


@dataclass(frozen=True)
class SlotRates:
    """What a slot does in a second, and where these numbers come from.

    Attributes:
        flops: floating-point operations in the compute dtype, of whole steps.
        flops64: the same in float64, where SVDs are computed.
        bandwidth: bytes read and written.
        told: how times come of them, such as "at rates measured here (…)".
        laws: step → its own law; the rates are for the others.
    """

    flops: float
    flops64: float
    bandwidth: float
    told: str
    laws: Mapping[str, Law] = field(default_factory=dict)

    @property
    def worth(self) -> str:
        """Say how good such times are."""
        if not self.laws:
            return "Expect a factor of 2; loading models is not in it"
        most = max(law.factor for law in self.laws.values())
        return (
            f"The small models that were measured lay within about a factor of {most:.2f} of it; "
            "expect more of models that are much larger"
        )

    def seconds(self, step: str, work: Work) -> float:
        """Return how long a step's work takes."""
        law = self.laws.get(step)
        if law is not None:
            return law.seconds(work)
        return work.seconds(flops=self.flops, flops64=self.flops64, bandwidth=self.bandwidth)


@dataclass(frozen=True)
class Exponent:
    """The slope of log y over log x: y grows as x to this power.

    Attributes:
        value: by least squares.
        low, high: its 95 % interval, by Student's t with n - 2 degrees of freedom.
    """

    value: float
    low: float
    high: float


def fit_law(works: Sequence[Work], seconds: Sequence[float]) -> Law:
    """Fit a step's constants to measured times.

    Minimises Σ (log t̂ − log t)² over constants above zero. Terms that explain nothing are dropped,
    the least first, until each is a noticeable part of some point's time.

    Args:
        works: of the measured computations.
        seconds: that each took.

    Raises:
        ParaknowError: if there are no more points than terms, or a time is not above zero.
    """
    amounts = np.array([_amounts(work) for work in works], dtype=np.float64)
    times = np.array(seconds, dtype=np.float64)
    used = [n for n in range(len(TERMS)) if amounts.size and (amounts[:, n] > 0).all()]
    if len(times) <= len(used):
        raise ParaknowError(
            f"A law of {len(used)} terms was to be fitted to {len(times)} measured times: measure "
            f"at least {len(used) + 1} shapes."
        )
    if not (times > 0).all():
        raise ParaknowError(f"A measured time is {times.min():g} s; it must be above zero.")
    while True:
        logs, jacobian, left = _least_squares(amounts[:, used], times)
        parts = amounts[:, used] * np.exp(logs)
        share = (parts / parts.sum(axis=1, keepdims=True)).max(axis=0)
        if len(used) == 1 or share.min() >= _LEAST:
            break
        del used[int(share.argmin())]
    spread = _spread(jacobian, left)
    constants = {TERMS[n]: float(np.exp(log)) for n, log in zip(used, logs, strict=True)}
    intervals = {
        TERMS[n]: (float(np.exp(log - wide)), float(np.exp(log + wide)))
        for n, log, wide in zip(used, logs, spread, strict=True)
    }
    return Law(constants, float(np.exp(np.sqrt(np.mean(left**2)))), intervals)


def exponent(x: Sequence[float], y: Sequence[float]) -> Exponent:
    """Return the power of x by which y grows, with its 95 % interval.

    Args:
        x: at least three values, all above zero.
        y: as many, also above zero.
    """
    from scipy.stats import linregress, t

    found = linregress(np.log(x), np.log(y))
    wide = float(t.ppf((1 + _SURE) / 2, len(x) - 2) * found.stderr)
    slope = float(found.slope)
    return Exponent(slope, slope - wide, slope + wide)


def _amounts(work: Work) -> tuple[float, ...]:
    return (1.0, work.launches, work.flops, work.flops64, work.moved)


def _least_squares(amounts: Vector, times: Vector) -> tuple[Vector, Vector, Vector]:
    """Fit logarithms of constants; returns them, the Jacobian and what is left at each point."""
    from scipy.optimize import least_squares

    goal = np.log(times)

    def left(logs: Vector) -> Vector:
        return np.asarray(np.log(amounts @ np.exp(logs)) - goal)

    def jacobian(logs: Vector) -> Vector:
        parts = amounts * np.exp(logs)
        return np.asarray(parts / parts.sum(axis=1, keepdims=True))

    # Where every term takes the same part of the median time; none can become less than nothing.
    start = np.log(np.median(times) / amounts.shape[1] / np.median(amounts, axis=0))
    bounds, least = (start - 40, start + 40), 1e-12
    found = least_squares(
        left, start, jac=jacobian, bounds=bounds, ftol=least, xtol=least, gtol=least
    )
    return np.asarray(found.x), jacobian(found.x), np.asarray(found.fun)


def _spread(jacobian: Vector, left: Vector) -> Vector:
    """Half the 95 % interval of each fitted logarithm, by the linearised model."""
    from scipy.stats import t

    points, terms = jacobian.shape
    variance = float(left @ left) / (points - terms)
    covariance = variance * np.linalg.pinv(jacobian.T @ jacobian)
    quantile = float(t.ppf((1 + _SURE) / 2, points - terms))
    return np.asarray(quantile * np.sqrt(np.maximum(np.diag(covariance), 0.0)))
