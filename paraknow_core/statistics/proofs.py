"""What an order of pairs is to show of the teacher, and what its numbers allow to be said.

A pair differs from the one before it in its teacher alone; so a method that gets better along the
order does so because of the teacher, if no control of it does the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from paraknow_core.methods import METHODS
from paraknow_core.registry import Registry
from paraknow_core.statistics.design import holm
from paraknow_core.statistics.trend import PAGE_FROM, Trend

ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class ProofKind:
    """One kind of order of pairs.

    Attributes:
        title: heads its section.
        question: what it asks.
        order: which pair comes first, and which last.
        shown: what may be said where the method gets better along it, and no control does.
        needs_facts: whether its last pair's teacher, and the task, must have planted facts.
    """

    title: str
    question: str
    order: str
    shown: str
    needs_facts: bool = False


PROOFS: Registry[ProofKind] = Registry(
    "proof",
    {
        "dose": ProofKind(
            title="Dose and response",
            question="Does a teacher that learnt more give a better student?",
            order="from the teacher that learnt least to the one that learnt most",
            shown="a teacher that learnt more gives a better student",
        ),
        "swap": ProofKind(
            title="Another teacher",
            question="Does it matter what the teacher learnt, where its shape is the same?",
            order="the teacher of other data first, the one of the student’s task last",
            shown="the teacher of the task gives a better student than one of other data",
        ),
        "planted": ProofKind(
            title="Planted facts",
            question="Does the student know what only the teacher was told?",
            order="the teacher without the facts first, the one that was told them last",
            shown="the student knows more of facts that only the teacher was told",
            needs_facts=True,
        ),
    },
)
"""Every kind of order, by the name that settings give it."""


@dataclass(frozen=True)
class MethodTrend:
    """One method along an order.

    Attributes:
        name: as it is shown.
        start: a key of ``METHODS``.
        trend: None where the pairs share too few seeds.
        p_holm: of a claim, corrected for the number of claims in this order; else None.
    """

    name: str
    start: str
    trend: Trend | None
    p_holm: float | None = None

    @property
    def is_claim(self) -> bool:
        """Whether something of the teacher is claimed for it: it is a transfer."""
        return METHODS[self.start].is_transfer

    @property
    def follows(self) -> bool:
        """Whether it visibly gets better along the order; a claim by its corrected p-value."""
        if self.trend is None or self.trend.p_value is None or not self.trend.rises:
            return False
        return self._p(self.trend.p_value) < ALPHA

    @property
    def falls(self) -> bool:
        """Whether it visibly gets worse, which the one-sided test of three pairs cannot see."""
        if self.trend is None or self.trend.p_value is None or self.trend.rises:
            return False
        return len(self.trend.means) < PAGE_FROM and self._p(self.trend.p_value) < ALPHA

    def _p(self, p_value: float) -> float:
        return p_value if self.p_holm is None else self.p_holm


def corrected(found: Sequence[MethodTrend]) -> list[MethodTrend]:
    """Correct the claims' p-values for their number (Holm); the others are exploratory."""
    claims = {
        one.name: one.trend.p_value
        for one in found
        if one.is_claim and one.trend is not None and one.trend.p_value is not None
    }
    p_holm = holm(claims)
    return [MethodTrend(one.name, one.start, one.trend, p_holm.get(one.name)) for one in found]


def conclusion(
    kind: ProofKind, one: MethodTrend, found: Sequence[MethodTrend], *, teachers_rise: bool | None
) -> str:
    """Say in one sentence what an order's numbers allow of one method.

    Args:
        kind: of the order.
        one: the method.
        found: every method along this order, corrected.
        teachers_rise: whether the teachers' own scores get better along it; None: not measured.
    """
    if one.trend is None:
        return f"{one.name}: not tested, as the pairs share too few seeds with a result."
    if one.trend.p_value is None:
        return f"{one.name}: the same in every pair, as it takes nothing from the teacher."
    p = one.trend.p_value if one.p_holm is None else one.p_holm
    adjusted = "adjusted " if one.p_holm is not None else ""
    numbers = f"{one.trend.test}, {adjusted}p = {p:.3g}, {one.trend.n} seeds"
    doubt = _doubt(one, found, teachers_rise) if one.follows and one.is_claim else ""
    if one.falls:
        said = "gets worse along the order"
    elif not one.follows:
        said = "not shown"
    elif not one.is_claim:
        said = "gets better along the order too"
    else:
        said = "gets better along the order" if doubt else kind.shown
    return f"{one.name}: {said} ({numbers}){f', but {doubt}' if doubt else ''}."


def _doubt(one: MethodTrend, found: Sequence[MethodTrend], teachers_rise: bool | None) -> str:
    """Say why a method that gets better along an order does not show what the order is to show."""
    controls = [other for other in found if METHODS[other.start].of == one.start]
    following = [other.name for other in controls if other.follows]
    if following:
        return (
            f"so does {', '.join(following)}, from which what the teacher learnt was taken away "
            "or mixed up; so it is not shown to be owed to that"
        )
    if not teachers_rise:
        return "the teachers’ own scores do not; so it is not shown that it is what they learnt"
    if not controls:
        return "no control of it ran; so it is not shown that what the teacher learnt is the reason"
    return ""


def rise(scores: Sequence[float | None], *, higher_is_better: bool) -> bool | None:
    """Whether scores get better from each to the next; None where one is not known."""
    known = [score for score in scores if score is not None]
    if len(known) < len(scores):
        return None
    signed = known if higher_is_better else [-score for score in known]
    return all(later > earlier for earlier, later in pairwise(signed))
