"""What may be told of one cell from its methods' answers alone: scores, contrasts, verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import METRICS, metrics_of
from paraknow_core.report.judged import judged_sentence
from paraknow_core.report.page import collect
from paraknow_core.report.page.data import Failure, Pair
from paraknow_core.report.page.outcome import Measure, Score
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.judge import Judgement, judge
from tasks.comparison_parts.config import ALL, ArmReport, CellReport, ComparisonConfig, seed_name
from tasks.comparison_parts.primary import Primary

Answers = Mapping[int, Sequence[Item]]
"""Seed → what a method answered."""


def told_of(
    cell: CellReport, answers: Sequence[Answers], config: ComparisonConfig, primary: Primary
) -> tuple[Pair, Judgement]:
    """Judge a cell, and put what follows from answers alone into a pair of the page.

    Args:
        cell: one pair on one task, whose methods could be compared.
        answers: of each of its methods, in their order.
        config: of the whole report.
        primary: what the verdict is about.
    """
    arms = [
        replace(arm_result(arm, found, config), asked=primary.asked_of(place))
        for place, (arm, found) in enumerate(zip(cell.arms, answers, strict=True))
    ]
    judgement = judge(arms, primary.metric, cell.metrics, margin=cell.margin)
    reported = [m for m in metrics_of(cell.metrics, primary.metric) if m.transform is None]
    metric, *beside = map(Measure.of, reported)
    pair = Pair(
        name=cell.pair,
        task=cell.task,
        teacher="",
        student="",
        metric=metric,
        beside=tuple(beside),
        verdict=judgement.sentence,
        teacher_matters=_teacher_matters(judgement),
        notes=(*judgement.notes, *_judged(cell, answers)),
        contrasts=judgement.contrasts,
        scores=tuple(
            _score(arm, result, reported) for arm, result in zip(cell.arms, arms, strict=True)
        ),
        failures=tuple(_failures(cell, config.wanted_seeds)),
    )
    return pair, judgement


def _judged(cell: CellReport, answers: Sequence[Answers]) -> list[str]:
    """What a judge says of each method's answers, or why it says nothing; nothing without one."""
    each = zip(cell.arms, answers, strict=True)
    told = [judged_sentence(arm.name, list(found.values())) for arm, found in each]
    return [sentence for sentence in (cell.judging, *told) if sentence]


def failed_pair(cell: CellReport, reason: str, what: str) -> Pair:
    """Show a cell of which nothing but a reason is known."""
    return Pair(
        name=cell.pair,
        teacher="",
        student="",
        task=cell.task,
        metric=Measure.of(METRICS.choose(cell.primary)),
        verdict=f"{what}: {reason}",
        failures=(Failure(cell="everything", reason=reason),),
    )


def arm_result(arm: ArmReport, items: Answers, config: ComparisonConfig) -> ArmResult:
    """Say which of the wanted seeds have a result, which diverged and which failed.

    Args:
        arm: one method of a cell.
        items: seed → what it answered.
        config: of the whole report.
    """
    lost = ""
    if ALL in arm.diverged:
        lost = "every learning rate that was tried diverged"
    elif ALL in arm.failures:
        lost = "no seed was run, as the method failed before"
    missing = [seed for seed in config.wanted_seeds if seed not in items]
    return ArmResult(
        arm.name,
        arm.start,
        items,
        at_edge=arm.at_edge,
        is_tuned=not arm.has_fixed_rate,
        diverged=[seed for seed in missing if seed_name(seed) in arm.diverged],
        failed=[seed for seed in missing if seed_name(seed) not in arm.diverged],
        lost=lost,
        loss=arm.loss,
        epochs=arm.epochs,
    )


def _score(arm: ArmReport, result: ArmResult, reported: Sequence[Metric]) -> Score:
    values = {metric.name: result.values(metric) for metric in reported}
    score = collect.score_of(
        arm.name,
        [{name: of[seed] for name, of in values.items() if seed in of} for seed in result.items],
        metrics=reported,
        learning_rate=arm.rate,
        chosen_from=len(arm.trials),
    )
    return replace(score, start=arm.start, loss=arm.trained_on)


def _teacher_matters(judgement: Judgement) -> bool | None:
    """None where a control that it takes did not run, or nothing could have been shown."""
    verdict = judgement.verdict
    if verdict is None or any(
        answer.outcome in ("not tested", "out of reach") for answer in verdict.answers
    ):
        return None
    return verdict.teacher


def _failures(cell: CellReport, wanted: Sequence[int]) -> list[Failure]:
    """List what gave no number: faults first, then what diverged, of each method."""
    seeds = {seed_name(seed): seed for seed in wanted}
    return [
        Failure(
            cell=f"{arm.name}, {which}",
            reason=reason,
            method=arm.name,
            seed=seeds.get(which),
            whole=which == ALL,
            diverged=told is arm.diverged,
        )
        for arm in cell.arms
        for told in (arm.failures, arm.diverged)
        for which, reason in told.items()
    ]
