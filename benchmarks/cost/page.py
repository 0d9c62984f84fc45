"""The page of costs: the words of ``docs/cost/page.md.jinja``, and numbers that nobody wrote."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.cost.points import FOLDER, of_step
from benchmarks.words import words
from flows.calibration.calibrate import laws_of
from flows.calibration.measure import MEASURED, Sample
from flows.calibration.shapes import ANSWER, AXES, UNSEEN, Shape, all_shapes, along
from paraknow_core.inspection.laws import Exponent, Law, exponent

UNITS = {
    "fixed": ("s", 1.0),
    "launches": ("ms a layer or matrix", 1e3),
    "flops": ("s / 10¹² operations", 1e12),
    "flops64": ("s / 10¹² operations, float64", 1e12),
    "moved": ("s / GB", 1e9),
}
"""Term → how its constant is written, and by what it is multiplied for that."""


@dataclass(frozen=True)
class Growth:
    """How a step's cost grows with one size.

    Attributes:
        step, axis: which.
        sizes: that were measured, least and greatest.
        time: measured exponent of the seconds.
        law: exponent of what the law says of the same sizes.
        off: the largest factor between law and measurement, in either direction.
        memory: measured exponent of the peak memory.
        estimate: the least and the most of estimated over measured memory.
    """

    step: str
    axis: str
    sizes: tuple[int, int]
    time: Exponent
    law: float
    off: float
    memory: Exponent
    estimate: tuple[float, float]


@dataclass(frozen=True)
class Foretold:
    """A step of a shape that no law was fitted to.

    Attributes:
        shape: of the pair.
        step: its name.
        planned, measured: seconds.
    """

    shape: Shape
    step: str
    planned: float
    measured: float

    @property
    def factor(self) -> float:
        """Planned over measured."""
        return self.planned / self.measured


def fitted(samples: Sequence[Sample]) -> dict[str, Law]:
    """Return the law of each step, fitted to the shapes on the axes."""
    shapes = set(all_shapes())
    return laws_of([one for one in samples if one.shape in shapes])


def growths(samples: Sequence[Sample], laws: Mapping[str, Law]) -> list[Growth]:
    """Return how each step's cost grows with each size."""
    found = []
    for step in MEASURED:
        for axis in AXES:
            points = of_step(samples, step, along(axis))
            sizes = [float(getattr(one.shape, axis)) for one in points]
            planned = [laws[step].seconds(one.work) for one in points]
            shares = [one.estimated / one.memory for one in points]
            found.append(
                Growth(
                    step,
                    axis,
                    (round(sizes[0]), round(sizes[-1])),
                    exponent(sizes, [one.cpu for one in points]),
                    exponent(sizes, planned).value,
                    max(_apart(p, one.cpu) for p, one in zip(planned, points, strict=True)),
                    exponent(sizes, [float(one.memory) for one in points]),
                    (min(shares), max(shares)),
                )
            )
    return found


def foretold(samples: Sequence[Sample], laws: Mapping[str, Law]) -> list[Foretold]:
    """Return what the laws say of the shapes that they were not fitted to."""
    return [
        Foretold(one.shape, step, laws[step].seconds(one.work), one.cpu)
        for step in MEASURED
        for one in of_step(samples, step, UNSEEN)
    ]


def page(samples: Sequence[Sample]) -> str:
    """Fill in the page's words with the numbers of the points.

    Args:
        samples: of every shape on the axes, and of those that no law is fitted to.
    """
    laws = fitted(samples)
    told = foretold(samples, laws)
    page_words = words(FOLDER)
    grown = growths(samples, laws)
    page_words.filters |= {"short": short, "exponent": interval_text}
    return page_words.get_template("page.md.jinja").render(
        laws=laws,
        constants=constants(laws),
        growths=grown,
        outside=[one for one in grown if not one.time.low <= one.law <= one.time.high],
        axes=AXES,
        base=Shape(),
        answer=ANSWER,
        shapes=len(all_shapes()),
        foretold=told,
        unseen=UNSEEN,
        total={
            shape: [
                sum(getattr(one, which) for one in told if one.shape == shape)
                for which in ("planned", "measured")
            ]
            for shape in UNSEEN
        },
        worst=max(_apart(one.planned, one.measured) for one in told),
        shares={
            step: statistics.median(
                one.estimated / one.memory for one in samples if one.step == step
            )
            for step in MEASURED
        },
        large=[one.estimated / one.memory for one in samples if one.memory >= 100e6],
    )


def constants(laws: Mapping[str, Law]) -> list[tuple[str, str, str]]:
    """Return step, constant and its 95 % interval, for every term of every law."""
    rows = []
    for step, law in laws.items():
        for term, value in law.seconds_each.items():
            unit, times = UNITS[term]
            low, high = law.intervals[term]
            wide = f"{short(low * times)} to {short(high * times)}"
            if high / low > 100:
                wide = "not told by these points"
            rows.append((step, f"{short(value * times)} {unit}", wide))
    return rows


def short(value: float) -> str:
    """Write two digits that count."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def interval_text(found: Exponent) -> str:
    """Write an exponent with its interval."""
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _apart(one: float, other: float) -> float:
    return max(one / other, other / one)
