"""The notes under a verdict: what the design could see, other metrics, and right answers."""

from collections.abc import Mapping, Sequence

from paraknow_core.evaluation.metric import Metric
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.design import holm
from paraknow_core.statistics.paired_seeds import SeedComparison
from paraknow_core.statistics.pooled_items import COVERS, majority_mcnemar, pooled_difference


def detectable(comparisons: Mapping[str, SeedComparison], metric: Metric) -> str:
    """Say how small a difference from each other method the design would have seen."""
    least = [
        f"{name} {'none' if c.detectable is None else format(c.detectable, f'.{metric.digits}f')}"
        for name, c in comparisons.items()
    ]
    return (
        "Smallest difference that this design would see in 80 of 100 repetitions, before Holm's "
        f"correction: {', '.join(least)}."
    )


def over_items(
    arm: ArmResult, others: Sequence[ArmResult], reported: Sequence[Metric]
) -> list[str]:
    """Say what seeds and items together show, one sentence or two a metric.

    Args:
        arm: the method that is compared with the others.
        others: each with at least 2 of its seeds.
        reported: the primary metric first; of that one only counts of right and wrong answers are
            reported, as the verdict says the rest.
    """
    primary = reported[0]
    whole = [m for m in reported if m.transform is None and (m is not primary or m.is_binary)]
    binary = [m for m in reported if m.is_binary]
    return [
        *(_pooled(arm, others, metric) for metric in whole),
        *(_majorities(arm, others, metric, named=len(binary) > 1) for metric in binary),
    ]


def _pooled(arm: ArmResult, others: Sequence[ArmResult], metric: Metric) -> str:
    differences = []
    for other in others:
        found = pooled_difference(arm.items_of(metric), other.items_of(metric), metric=metric)
        mean, low, high = (f"{v:+.{metric.digits}f}" for v in (found.mean, found.low, found.high))
        differences.append(f"{other.name} {mean} (95 % interval {low} to {high})")
    title = metric.title[0].upper() + metric.title[1:]
    return f"{title}, {arm.name} minus the other: {'; '.join(differences)}. {COVERS}"


def _majorities(arm: ArmResult, others: Sequence[ArmResult], metric: Metric, *, named: bool) -> str:
    found = {
        other.name: majority_mcnemar(arm.items_of(metric), other.items_of(metric), metric)
        for other in others
    }
    adjusted = holm({other: test.p_value for other, test in found.items()})
    counts = "; ".join(
        f"{other} {test.only_a} to {test.only_b} "
        f"(p = {test.p_value:.2g}, Holm {adjusted[other]:.2g})"
        for other, test in found.items()
    )
    return (
        f"Items that most seeds answer rightly {f'by {metric.label} ' if named else ''}with "
        f"{arm.name} alone to those with the other alone (exact McNemar): {counts}. The test "
        "covers other items, not other training seeds."
    )
