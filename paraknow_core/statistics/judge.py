"""From every method's items over paired seeds to contrasts, a verdict and its caveats."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from paraknow_core.distillation.recipe import ANSWERS
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import LOSS, REPORTED, metrics_of
from paraknow_core.methods import METHODS, Method, used_by
from paraknow_core.statistics.arm_result import (
    ArmResult,
    compare,
    gaps_of,
    lack_of,
    obstacle,
    spoilt_of,
)
from paraknow_core.statistics.beside import ahead, compared_as_well, over_other_items
from paraknow_core.statistics.contrast import BETTER, UNCLEAR, WORSE, Contrast
from paraknow_core.statistics.design import LEAST_SEEDS, describe_design, holm
from paraknow_core.statistics.notes import detectable, over_items
from paraknow_core.statistics.paired_seeds import SeedComparison
from paraknow_core.statistics.pooled_items import crossed_interval
from paraknow_core.statistics.sentences import without_the_word
from paraknow_core.statistics.verdict import Verdict, knowledge_controls, pair_verdict, questions

_OUTCOMES = {"better": BETTER, "worse": WORSE}


@dataclass(frozen=True)
class Judgement:
    """What one pair's numbers allow to be said."""

    contrasts: tuple[Contrast, ...] = ()
    verdict: Verdict | None = None
    sentence: str = ""
    notes: tuple[str, ...] = field(default=())


def judge(
    arms: Sequence[ArmResult],
    primary: str | Metric = LOSS,
    metrics: Collection[str] = REPORTED,
    *,
    margin: float | None = None,
) -> Judgement:
    """Compare the transfer with every other method, and the others with plain LoRA.

    The transfer is the first method that starts from the teacher and is no control. Its comparisons
    with its `family` carry the verdict and are corrected together (Holm 1979); all others are
    exploratory and not corrected. Two methods that share fewer than two seeds are not compared,
    and a note says why.

    Args:
        arms: in the order of the report, also those without a result.
        primary: the metric that the verdict is about, or its name.
        metrics: names of the metrics that were measured; notes report what the others show.
        margin: the least gain that matters, set beforehand; by default the primary metric's own.
    """
    reported = metrics_of(metrics, primary)
    transfer = next((arm for arm in arms if arm.method.is_transfer), None)
    usual = "answers" if transfer is None else transfer.loss
    plain = next(
        (a for a in arms if a.method.is_plain and not a.is_variant and a.loss == usual), None
    )
    exploratory = [
        _contrast(arm, plain, compare(arm, plain, reported[0]), reported[0])
        for arm in arms
        if plain is not None and arm not in (plain, transfer) and not obstacle(arm, plain)
    ]
    gaps, others = gaps_of(arms), [arm for arm in arms if arm is not transfer]
    if transfer is None:
        sentence = "No method here starts from the teacher: there is nothing to say of it."
        return Judgement(tuple(exploratory), None, sentence, gaps)
    if not transfer.is_usable:
        sentence = (
            f"Of {transfer.name} there is nothing to say: {lack_of(transfer)}, and a comparison "
            f"takes at least {LEAST_SEEDS} seeds."
        )
        return Judgement(tuple(exploratory), None, sentence, gaps_of(others))
    found = _judge(transfer, others, exploratory, reported, margin)
    return replace(found, notes=(*gaps, *found.notes))


def _judge(
    transfer: ArmResult,
    others: Sequence[ArmResult],
    exploratory: Sequence[Contrast],
    reported: Sequence[Metric],
    margin: float | None,
) -> Judgement:
    metric = reported[0]
    obstacles = {arm.name: obstacle(transfer, arm) for arm in others}
    compared = [arm for arm in others if not obstacles[arm.name]]
    asked_of = family(transfer, others)
    found = {arm.name: compare(transfer, arm, metric) for arm in compared}
    asked = {arm.name: found[arm.name] for arm in compared if arm.name in asked_of}
    adjusted = holm({name: comparison.p_value for name, comparison in asked.items()})
    labels = {transfer.name: transfer.name, **{arm.name: arm.label for arm in others}}
    verdict = pair_verdict(
        asked,
        adjusted=adjusted,
        metric=metric,
        margin=margin,
        method=transfer.start,
        lr_at_edge=[arm.name for arm in (transfer, *others) if arm.at_edge],
        labels=labels,
        is_tuned=all(arm.is_tuned for arm in (transfer, *others)),
        untested={name: why for name, why in obstacles.items() if why and name in asked_of},
        spoilt={arm.name: spoilt_of(transfer, arm) for arm in compared},
    )
    outcomes = {answer.other: _OUTCOMES.get(answer.outcome, UNCLEAR) for answer in verdict.answers}
    contrasts = [
        _contrast(
            transfer,
            arm,
            found[arm.name],
            metric,
            p_holm=adjusted.get(arm.name),
            outcome=outcomes.get(arm.name, "") if arm.name in asked_of else "",
            headline=arm.name in asked_of,
        )
        for arm in compared
    ]
    seeds = min((comparison.n for comparison in found.values()), default=len(transfer.items))
    notes = [f"Not compared with {name}: {why}." for name, why in obstacles.items() if why]
    notes.append(describe_design(seeds, family=max(1, len(asked))))
    if asked:
        theirs = [arm for arm in compared if arm.name in asked]
        notes.append(detectable(asked, metric))
        notes += over_items(transfer, theirs, reported)
    notes += compared_as_well(transfer, compared, found, metric)
    said = tuple(dict.fromkeys((*verdict.caveats, *notes)))  # the verdict may say it already
    fair = [arm for arm in compared if not spoilt_of(transfer, arm).other]
    by_name = {c.against: c for c in contrasts}
    held = over_other_items(verdict.answers, by_name, labels, metric)
    beside = held + ahead(transfer, fair, found, metric, asked_of)
    sentence = verdict.sentence + (beside if verdict.teacher else without_the_word(beside))
    return Judgement((*contrasts, *exploratory), verdict, sentence, said)


def family(transfer: ArmResult, others: Sequence[ArmResult]) -> frozenset[str]:
    """Name the arms that ran and that the verdict compares with: Holm's correction is for these.

    A variant, with settings of its own, another loss or other epochs, is not among them.
    """
    alike = [a for a in others if (a.loss, a.epochs) == (transfer.loss, transfer.epochs)]
    names = {arm.name for arm in alike if not arm.is_variant}
    asked = (*questions(transfer.start), *knowledge_controls(transfer.start, names))
    return frozenset(names & set(asked))


def _contrast(
    arm: ArmResult,
    against: ArmResult,
    comparison: SeedComparison,
    metric: Metric,
    *,
    p_holm: float | None = None,
    outcome: str = "",
    headline: bool = False,
) -> Contrast:
    effect = "" if comparison.effect is None else f", d_z {comparison.effect:+.2f}"
    left = f"; {len(comparison.left_out)} left out" if comparison.left_out else ""
    spoilt = spoilt_of(arm, against)
    if not outcome and (spoilt.first if metric.is_better(comparison.mean) else spoilt.other):
        outcome = UNCLEAR  # the seeds that are left favour the side that diverged
    items, theirs = arm.items_of(metric), against.items_of(metric)
    items_low, items_high = crossed_interval(items, theirs, metric=metric)
    return Contrast(
        label=f"{arm.name} − {against.name}",
        method=arm.name,
        against=against.name,
        mean=comparison.mean,
        low=comparison.low,
        high=comparison.high,
        items_low=items_low,
        items_high=items_high,
        p=comparison.p_value,
        p_holm=p_holm,
        n=comparison.n,
        wins=comparison.wins,
        verdict=f"{comparison.wins} of {comparison.n} seeds better{effect}{left}",
        outcome=outcome,
        headline=headline,
        higher_is_better=metric.higher_is_better,
    )


def about(start: str, others: Collection[str] = (), *, loss: str = ANSWERS) -> tuple[str, str]:
    """Return a method's kind and what it is, for the page's list of methods.

    Args:
        start: a key of ``METHODS``.
        others: further methods that parts of its start point come from, by role.
        loss: what it is trained on, by ``loss_name``.
    """
    method, used = METHODS[start], used_by(start, *others)
    end = f" Of {_whose(method)} it uses: {used}." if used else ""
    if loss != ANSWERS:
        end += f" Trained on {loss}, which uses the teacher's outputs."
    if method.is_control:
        return "control", f"{method.start}. {method.tells}{end}"
    kind = "method" if method.is_transfer else "baseline"
    told = f"{method.start} ({method.source})"
    return kind, f"{told}.{end}" if end else told


def _whose(method: Method) -> str:
    """A control without the teacher uses what stands in for it."""
    return "what stands in for the teacher" if method.changes == "teacher" else "the teacher"
