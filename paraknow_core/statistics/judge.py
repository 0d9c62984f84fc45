"""From every method's items over paired seeds to contrasts, a verdict and its caveats."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metrics import LOSS, REPORTED, Metric, metrics_of
from paraknow_core.methods import METHODS, Method
from paraknow_core.statistics.contrast import BETTER, UNCLEAR, WORSE, Contrast
from paraknow_core.statistics.design import (
    LEAST_SEEDS,
    count_seeds,
    describe_design,
    holm,
    shortfall,
)
from paraknow_core.statistics.notes import detectable, over_items
from paraknow_core.statistics.paired_seeds import SeedComparison, compare_seeds
from paraknow_core.statistics.verdict import (
    Spoilt,
    Verdict,
    knowledge_controls,
    pair_verdict,
    questions,
)

_OUTCOMES = {"better": BETTER, "worse": WORSE}


@dataclass(frozen=True)
class ArmResult:
    """One method's results on test.

    Attributes:
        name: as it is shown.
        start: a key of ``METHODS``.
        items: seed → items, the same rows for every seed and method.
        at_edge: whether its learning rate is the least or greatest that was tried.
        is_tuned: whether its learning rate was chosen by trials; otherwise it was given.
        diverged: seeds whose training diverged; they have no items here.
        failed: seeds that gave an error instead of a result.
        lost: in a few words why no seed was run, such as that every learning rate diverged.
    """

    name: str
    start: str
    items: Mapping[int, Sequence[Item]]
    at_edge: bool = False
    is_tuned: bool = True
    diverged: Collection[int] = ()
    failed: Collection[int] = ()
    lost: str = ""

    @property
    def method(self) -> Method:
        """What it starts from."""
        return METHODS[self.start]

    @property
    def is_variant(self) -> bool:
        """Whether it has settings of its own: a variant of a method is not that method."""
        return self.name != self.start

    @property
    def label(self) -> str:
        """Its name in sentences."""
        return self.name if self.is_variant else self.method.label

    @property
    def is_usable(self) -> bool:
        """Whether it can be compared with anything."""
        return len(self.items) >= LEAST_SEEDS

    def values(self, metric: Metric) -> dict[int, float]:
        """Seed → value of a metric."""
        return {seed: metric.pooled(items) for seed, items in self.items.items()}

    def shortfall(self) -> str:
        """Say which seeds have no result, and why; nothing if all have one."""
        return shortfall(len(self.items), self.diverged, self.failed, self.lost)


@dataclass(frozen=True)
class Judgement:
    """What one pair's numbers allow to be said."""

    contrasts: tuple[Contrast, ...] = ()
    verdict: Verdict | None = None
    sentence: str = ""
    notes: tuple[str, ...] = field(default=())


def judge(
    arms: Sequence[ArmResult], primary: str = LOSS, metrics: Collection[str] = REPORTED
) -> Judgement:
    """Compare the transfer with every other method, and the others with plain LoRA.

    The transfer is the first method that starts from the teacher and is no control. Its comparisons
    with its `family` carry the verdict and are corrected together (Holm 1979); all others are
    exploratory and not corrected. Two methods that share fewer than two seeds are not compared,
    and a note says why.

    Args:
        arms: in the order of the report, also those without a result.
        primary: name of the metric that the verdict is about.
        metrics: names of the metrics that were measured; notes report what the others show.
    """
    reported = metrics_of(metrics, primary)
    transfer = next((arm for arm in arms if arm.method.is_transfer), None)
    plain = next((arm for arm in arms if arm.method.is_plain and not arm.is_variant), None)
    exploratory = [
        _contrast(arm, plain, _compare(arm, plain, reported[0]), reported[0])
        for arm in arms
        if plain is not None and arm not in (plain, transfer) and not _obstacle(arm, plain)
    ]
    gaps, others = _gaps(arms), [arm for arm in arms if arm is not transfer]
    if transfer is None:
        sentence = "No method here starts from the teacher: there is nothing to say of it."
        return Judgement(tuple(exploratory), None, sentence, gaps)
    if not transfer.is_usable:
        sentence = (
            f"Of {transfer.name} there is nothing to say: {_lack(transfer)}, and a comparison "
            f"takes at least {LEAST_SEEDS} seeds."
        )
        return Judgement(tuple(exploratory), None, sentence, _gaps(others))
    found = _judge(transfer, others, exploratory, reported)
    return replace(found, notes=(*gaps, *found.notes))


def _gaps(arms: Sequence[ArmResult]) -> tuple[str, ...]:
    """One sentence for each method without all of its seeds."""
    return tuple(f"{arm.name}: {told}." for arm in arms if (told := arm.shortfall()))


def _lack(arm: ArmResult) -> str:
    """Say why a method with too few seeds has no more of them."""
    return arm.shortfall() or f"it has {count_seeds(len(arm.items))}"


def _obstacle(arm: ArmResult, other: ArmResult) -> str:
    """Say why two methods cannot be compared; nothing if they can."""
    shared = len(arm.items.keys() & other.items.keys())
    if shared >= LEAST_SEEDS:
        return ""
    lacking = next((a for a in (other, arm) if not a.is_usable), None)
    if lacking is not None:
        return f"{lacking.name}: {_lack(lacking)}"
    return f"they share {count_seeds(shared)} with a result, and at least {LEAST_SEEDS} are needed"


def _spoilt(arm: ArmResult, other: ArmResult) -> Spoilt:
    """Seeds in which one side alone diverged, so that leaving them out favours it."""
    return Spoilt(
        first=tuple(sorted(set(arm.diverged) & other.items.keys())),
        other=tuple(sorted(set(other.diverged) & arm.items.keys())),
    )


def _compare(arm: ArmResult, other: ArmResult, metric: Metric) -> SeedComparison:
    return compare_seeds(
        arm.values(metric), other.values(metric), higher_is_better=metric.higher_is_better
    )


def _judge(
    transfer: ArmResult,
    others: Sequence[ArmResult],
    exploratory: Sequence[Contrast],
    reported: Sequence[Metric],
) -> Judgement:
    metric = reported[0]
    obstacles = {arm.name: _obstacle(transfer, arm) for arm in others}
    compared = [arm for arm in others if not obstacles[arm.name]]
    asked_of = family(transfer, others)
    found = {arm.name: _compare(transfer, arm, metric) for arm in compared}
    asked = {arm.name: found[arm.name] for arm in compared if arm.name in asked_of}
    adjusted = holm({name: comparison.p_value for name, comparison in asked.items()})
    verdict = pair_verdict(
        asked,
        adjusted=adjusted,
        metric=metric,
        method=transfer.start,
        lr_at_edge=[arm.name for arm in (transfer, *others) if arm.at_edge],
        labels={transfer.name: transfer.name, **{arm.name: arm.label for arm in others}},
        is_tuned=all(arm.is_tuned for arm in (transfer, *others)),
        untested={name: why for name, why in obstacles.items() if why and name in asked_of},
        spoilt={arm.name: _spoilt(transfer, arm) for arm in compared},
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
        theirs = {arm.name: arm.items for arm in compared if arm.name in asked}
        notes.append(detectable(asked, metric))
        notes += over_items(transfer.name, transfer.items, theirs, reported)
    said = tuple(dict.fromkeys((*verdict.caveats, *notes)))  # the verdict may say it already
    fair = [arm for arm in compared if not _spoilt(transfer, arm).other]
    ahead = _ahead(transfer, fair, found, metric)
    return Judgement((*contrasts, *exploratory), verdict, verdict.sentence + ahead, said)


def family(transfer: ArmResult, others: Sequence[ArmResult]) -> frozenset[str]:
    """Name the arms that ran and that the verdict compares with: Holm's correction is for these.

    A variant, with settings of its own, is not among them.
    """
    names = {arm.name for arm in others if not arm.is_variant}
    asked = (*questions(transfer.start), *knowledge_controls(transfer.start, names))
    return frozenset(names & set(asked))


def _ahead(
    transfer: ArmResult,
    others: Sequence[ArmResult],
    found: Mapping[str, SeedComparison],
    metric: Metric,
) -> str:
    """Name start points of the student alone that do better, besides those in the verdict.

    They are left out of the correction, so that a longer list of methods does not weaken the
    verdict. But a reader of the verdict must also see that something simpler helps more.
    """
    asked = family(transfer, others)
    better = [
        f"{arm.label} ({c.mean:+.3g}, {100 * c.confidence:g} % interval "
        f"{c.low:+.3g} to {c.high:+.3g}, p = {c.p_value:.2g}, not corrected, {c.n} seeds)"
        for arm in others
        if arm.method.is_student_start and arm.name not in asked
        if _is_behind(c := found[arm.name], metric) and c.p_value < 0.05
    ]
    if not better:
        return ""
    return (
        f" Made of the student alone and better than {transfer.method.label}: {'; '.join(better)}."
    )


def _is_behind(comparison: SeedComparison, metric: Metric) -> bool:
    """Whether the whole interval says that the first of the two is worse."""
    ends = comparison.low, comparison.high
    return 0 not in ends and not any(map(metric.is_better, ends))


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
    spoilt = _spoilt(arm, against)
    if not outcome and (spoilt.first if metric.is_better(comparison.mean) else spoilt.other):
        outcome = UNCLEAR  # the seeds that are left favour the side that diverged
    return Contrast(
        label=f"{arm.name} − {against.name}",
        method=arm.name,
        against=against.name,
        mean=comparison.mean,
        low=comparison.low,
        high=comparison.high,
        p=comparison.p_value,
        p_holm=p_holm,
        n=comparison.n,
        wins=comparison.wins,
        verdict=f"{comparison.wins} of {comparison.n} seeds better{effect}{left}",
        outcome=outcome,
        headline=headline,
        higher_is_better=metric.higher_is_better,
    )


def about(start: str) -> tuple[str, str]:
    """Return a method's kind and what it is, for the page's list of methods."""
    method = METHODS[start]
    if method.is_control:
        return "control", f"{method.start}. {method.tells}"
    kind = "method" if method.is_transfer else "baseline"
    uses = f". Of the teacher it uses: {method.used}." if method.uses else ""
    return kind, f"{method.start} ({method.source}){uses}"
