"""The part of a page's data that says what the teacher does: orders of pairs, step 0."""

from dataclasses import dataclass, field

from paraknow_core.report.page.outcome import Measure
from paraknow_core.strict_model import Part


@dataclass(frozen=True, kw_only=True)
class Untrained(Part):
    """One method's start product added to the student, with no training.

    Attributes:
        method: a method's name.
        mean: of the pair's metric, over seeds; None: not measured.
        values: of each seed.
        student: the untouched student's value.
        better: in how many seeds it is better than the untouched student.
    """

    method: str
    mean: float | None
    values: tuple[float | None, ...] = ()
    student: float | None = None
    better: int = 0


@dataclass(frozen=True, kw_only=True)
class OrderLine(Part):
    """One method along an order of pairs.

    Attributes:
        method: a method's name.
        means: over the shared seeds, one a pair; empty where too few are shared.
        seeds: how many are shared.
        p: of the test along the order.
        p_holm: corrected for the claims of this order; None for what is no claim.
        said: what may be said of it.
    """

    method: str
    means: tuple[float | None, ...] = ()
    seeds: int = 0
    p: float | None = None
    p_holm: float | None = None
    said: str = ""


@dataclass(frozen=True, kw_only=True)
class PairOrder(Part):
    """Pairs that differ in their teacher alone, in a declared order.

    Attributes:
        kind: its registered name.
        title: of the section.
        question: what it asks.
        order: which pair comes first, and which last.
        task: that is measured.
        metric: that is compared.
        pairs: names, the one expected to be worst first.
        teachers: of each pair, the teacher's own score; None: not measured.
        lines: one a method.
        missing: why there is nothing to show; empty where there is.
    """

    kind: str
    title: str
    question: str
    order: str
    task: str
    metric: Measure = field(default_factory=Measure.usual)
    pairs: tuple[str, ...] = ()
    teachers: tuple[float | None, ...] = ()
    lines: tuple[OrderLine, ...] = ()
    missing: str = ""
