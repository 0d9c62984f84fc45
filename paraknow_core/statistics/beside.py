"""What stands beside a verdict: other items, starts without a teacher, and distillation."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from paraknow_core.evaluation.metric import Metric
from paraknow_core.statistics.answers import Answer
from paraknow_core.statistics.arm_result import ArmResult, compare, obstacle
from paraknow_core.statistics.contrast import Contrast
from paraknow_core.statistics.paired_seeds import SeedComparison
from paraknow_core.statistics.sentences import numbers_of

_Belongs = Callable[[ArmResult, ArmResult], bool]
"""Whether an arm is of a kind, seen from the transfer."""


def over_other_items(
    answers: Iterable[Answer],
    contrasts: Mapping[str, Contrast],
    labels: Mapping[str, str],
    metric: Metric,
) -> str:
    """Say which differences of the verdict hold for other items of the task, not only other seeds.

    Args:
        answers: of the verdict.
        contrasts: name of the other method → the difference from it.
        labels: name → how sentences call a method.
        metric: that the verdict is about.
    """
    said = [a.other for a in answers if a.outcome in ("better", "worse")]
    if not said:
        return ""
    open_ = [contrasts[name] for name in said if not _excludes_0(contrasts[name])]
    if not open_:
        return " With test items drawn at random as well as seeds, 95 % intervals leave out 0, too."
    named = "; ".join(
        f"{labels.get(c.against, c.against)} ({c.items_low:+.3g} to {c.items_high:+.3g})"
        for c in open_
    )
    return (
        " With test items drawn at random as well as seeds, the 95 % interval holds 0 against "
        f"{named}: of that nothing is shown beyond {metric.measured_on}."
    )


def _excludes_0(contrast: Contrast) -> bool:
    low, high = contrast.items_low, contrast.items_high
    return low is not None and high is not None and (low > 0 or high < 0)


def ahead(
    transfer: ArmResult,
    others: Sequence[ArmResult],
    found: Mapping[str, SeedComparison],
    metric: Metric,
    asked: Collection[str],
) -> str:
    """Name what does better than the transfer, besides the methods of the verdict.

    Start points of the student alone, and distillation, are left out of the correction, so that a
    longer list of methods does not weaken the verdict. But a reader of the verdict must also see
    that something simpler, or well known, helps more.

    Args:
        transfer: what the verdict is about.
        others: with which it can be compared fairly.
        found: name → transfer minus that method.
        metric: of which these are differences.
        asked: names of the methods in the verdict.
    """
    told = []
    for title, belongs in _KINDS.items():
        better = [
            f"{_named(arm, transfer)} ({_uncorrected(c)})"
            for arm in others
            if belongs(arm, transfer) and arm.name not in asked
            if _is_behind(c := found[arm.name], metric) and c.p_value < 0.05
        ]
        if better:
            told.append(f" {title} and better than {transfer.method.label}: {'; '.join(better)}.")
    return "".join(told)


def compared_as_well(
    transfer: ArmResult,
    others: Sequence[ArmResult],
    found: Mapping[str, SeedComparison],
    metric: Metric,
) -> list[str]:
    """Name the best start point without a teacher, and the best distillation, whatever they did.

    Those that were trained for as many epochs as the transfer have its data and steps; those with
    another number of epochs, such as one that makes compute equal, are named for themselves.
    """
    bests = {}
    for title, belongs in _KINDS.items():
        arms = [arm for arm in others if belongs(arm, transfer) and arm.name in found]
        if arms:
            bests[title] = min(arms, key=lambda a: (_distance(found[a.name], metric), a.name))
    told = [
        f"Compared as well, {title[0].lower()}{title[1:]}: the best is {_named(best, transfer)}, "
        f"and {transfer.method.label} minus it is {_uncorrected(found[best.name])}."
        for title, best in bests.items()
    ]
    distilled = bests.pop(_DISTILLED, None)
    alone = [arm for arm in bests.values() if arm.loss == transfer.loss]
    return told + [
        f"Without the teacher, or by its outputs: {_named(arm, transfer)} minus {distilled.label} "
        f"is {_uncorrected(compare(arm, distilled, metric))}."
        for arm in alone
        if distilled is not None and not obstacle(arm, distilled)
    ]


def _is_student_start(arm: ArmResult, transfer: ArmResult) -> bool:
    return arm.method.is_student_start and arm.loss == transfer.loss


def _is_distilled(arm: ArmResult, transfer: ArmResult) -> bool:
    return arm.loss == "distillation" and transfer.loss != "distillation"


def _is_alone(arm: ArmResult, transfer: ArmResult) -> bool:
    return not arm.method.uses and arm.loss == transfer.loss


def _as_long(belongs: _Belongs) -> _Belongs:
    return lambda arm, transfer: arm.epochs == transfer.epochs and belongs(arm, transfer)


def _not_as_long(belongs: _Belongs) -> _Belongs:
    return lambda arm, transfer: arm.epochs != transfer.epochs and belongs(arm, transfer)


_DISTILLED = "Trained by distillation"
_KINDS: Mapping[str, _Belongs] = {
    "Made of the student alone": _as_long(_is_student_start),
    _DISTILLED: _as_long(_is_distilled),
    "Without a teacher, for other epochs": _not_as_long(_is_alone),
    "Trained by distillation, for other epochs": _not_as_long(_is_distilled),
}


def _named(arm: ArmResult, transfer: ArmResult) -> str:
    """How sentences call an arm; with its epochs, if the transfer had others."""
    if arm.epochs == transfer.epochs:
        return arm.label
    return f"{arm.label} (epochs: {arm.epochs}, not {transfer.epochs})"


def _distance(comparison: SeedComparison, metric: Metric) -> float:
    """How far the transfer is ahead; the least for the best of the others."""
    return comparison.mean if metric.higher_is_better else -comparison.mean


def _uncorrected(c: SeedComparison) -> str:
    return f"{numbers_of(c)}, p = {c.p_value:.2g}, not corrected, {c.n} seeds"


def _is_behind(comparison: SeedComparison, metric: Metric) -> bool:
    """Whether the whole interval says that the first of the two is worse."""
    ends = comparison.low, comparison.high
    return 0 not in ends and not any(map(metric.is_better, ends))
