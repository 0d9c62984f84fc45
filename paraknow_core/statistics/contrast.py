"""The difference between two methods, as it is shown."""

from dataclasses import dataclass

from paraknow_core.strict_model import Part

BETTER, WORSE, UNCLEAR = "better", "worse", "unclear"


@dataclass(frozen=True, kw_only=True)
class Contrast(Part):
    """A paired difference, method minus ``against``.

    Attributes:
        label: its name in tables, such as ``SeeKing − PiSSA``.
        method: a method's name.
        against: what it is compared with.
        mean: of the paired differences.
        low: lower end of the 95 % interval.
        high: its upper end.
        items_low: lower end of the 95 % interval over seeds and items together.
        items_high: its upper end.
        p: of the paired test.
        p_holm: corrected for the family of comparisons.
        n: pairs (seeds).
        wins: how often the method was better.
        verdict: in words.
        outcome: ``better``, ``worse``, ``unclear``; empty: taken from interval and p-value.
        headline: whether it belongs to the page's first table, in the column of ``against``.
        higher_is_better: whether the method is better above 0, instead of below.
    """

    label: str
    method: str
    against: str
    mean: float | None
    low: float | None
    high: float | None
    items_low: float | None = None
    items_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int = 0
    wins: int | None = None
    verdict: str = ""
    outcome: str = ""
    headline: bool = False
    higher_is_better: bool = False

    @property
    def result(self) -> str:
        """``outcome``, or what interval and corrected p-value (p if there is none) give."""
        p = self.p if self.p_holm is None else self.p_holm
        if self.outcome in (BETTER, WORSE, UNCLEAR):
            return self.outcome
        if self.low is None or self.high is None or (p is not None and p > 0.05):
            return UNCLEAR
        if self.low <= 0 <= self.high:
            return UNCLEAR
        return BETTER if (self.low > 0) == self.higher_is_better else WORSE
