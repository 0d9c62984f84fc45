"""The answer to one question of a verdict: is the transfer better than another method?"""

from dataclasses import dataclass
from typing import Literal

from paraknow_core.evaluation.metric import Metric
from paraknow_core.statistics.design import largest_family, out_of_reach
from paraknow_core.statistics.paired_seeds import SeedComparison

Outcome = Literal["better", "no difference visible", "out of reach", "worse", "not tested"]

NOT_RUN = "it was not run"


@dataclass(frozen=True)
class Answer:
    """Is the transfer better than ``other``? ``comparison`` is transfer minus other.

    Attributes:
        other: name of a method.
        outcome: "out of reach" where no numbers could have given "better" or "worse", because
            there are too few seeds for so many comparisons.
        comparison: None without a result of both.
        p_adjusted: after Holm's correction.
        reason: why there is no answer, or why a difference could not have been seen.
        excludes_gain: whether the interval holds no gain of the margin or more.
    """

    other: str
    outcome: Outcome
    comparison: SeedComparison | None
    p_adjusted: float | None
    reason: str
    excludes_gain: bool = False


@dataclass(frozen=True)
class Spoilt:
    """Seeds that a comparison leaves out because one side diverged there and the other did not.

    Leaving them out favours that side: what it did worst is not counted.
    """

    first: tuple[int, ...] = ()
    other: tuple[int, ...] = ()


def answer_of(
    name: str,
    comparison: SeedComparison | None,
    p_adjusted: float | None,
    *,
    family: int,
    metric: Metric,
    margin: float | None,
    alpha: float,
    spoilt: Spoilt,
    why: str,
) -> Answer:
    """Say what a comparison shows.

    Args:
        name: of the other method.
        comparison: transfer minus other; None: there is none.
        p_adjusted: its p-value after Holm's correction.
        family: how many comparisons the correction is for.
        metric: of which it is the difference.
        margin: the least gain that matters; None: not set, and no gain is ever excluded.
        alpha: of the family.
        spoilt: seeds in which one side alone diverged.
        why: there is no comparison, in a few words.
    """
    if comparison is None or p_adjusted is None:
        return Answer(name, "not tested", None, None, why)
    excluded = not spoilt.other and excludes_gain(comparison, metric, margin)
    if family > largest_family(comparison.n, alpha):
        reason = out_of_reach(comparison.n, family=family, alpha=alpha)
        return Answer(name, "out of reach", comparison, p_adjusted, reason, excluded)
    outside = comparison.low > 0 or comparison.high < 0
    if p_adjusted < alpha and outside:
        better = metric.is_better(comparison.mean)
        favoured = spoilt.first if better else spoilt.other
        if favoured:
            side = "the transfer" if better else "the other"
            return Answer(name, "not tested", comparison, p_adjusted, _favours(side, favoured))
        outcome: Outcome = "better" if better else "worse"
        return Answer(name, outcome, comparison, p_adjusted, "", excluded)
    return Answer(name, "no difference visible", comparison, p_adjusted, "", excluded)


def excludes_gain(comparison: SeedComparison, metric: Metric, margin: float | None) -> bool:
    """Whether the interval holds no gain as large as the margin, or a larger one.

    This is the one-sided half of the test of equivalence by intervals (Schuirmann 1987), at
    (1 − confidence) / 2: half the level that its 90 % interval has.
    """
    if margin is None:
        return False
    gain = comparison.high if metric.higher_is_better else -comparison.low
    return gain < margin


def _favours(side: str, seeds: tuple[int, ...]) -> str:
    """Say why a difference does not count."""
    named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"{side} alone diverged in {named}, so the seeds that are left favour it"
