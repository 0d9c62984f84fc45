"""From every method's items over paired seeds to contrasts, a verdict and its caveats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from paraknow_core.evaluation.items import EvaluationResult, Item
from paraknow_core.methods import METHODS, PLAIN, TRANSFER
from paraknow_core.statistics.contrast import BETTER, UNCLEAR, WORSE, Contrast
from paraknow_core.statistics.design import describe_design, holm
from paraknow_core.statistics.paired_seeds import SeedComparison, compare_seeds
from paraknow_core.statistics.pooled_items import COVERS, majority_mcnemar, pooled_difference
from paraknow_core.statistics.verdict import (
    KNOWLEDGE_CONTROLS,
    LABELS,
    QUESTIONS,
    Verdict,
    pair_verdict,
)

METRIC = "answer NLL (nats a token)"
FAMILY = tuple(dict.fromkeys((*QUESTIONS, *KNOWLEDGE_CONTROLS)))
"""What the verdict asks, and therefore what Holm's correction is over, as far as it ran."""

_OUTCOMES = {"better": BETTER, "worse": WORSE}


@dataclass(frozen=True)
class ArmResult:
    """One method's results on test.

    Attributes:
        name: as it is shown.
        start: a key of ``METHODS``.
        items: seed → items, the same rows for every seed and method.
        at_edge: whether its learning rate is the least or greatest that was tried.
    """

    name: str
    start: str
    items: Mapping[int, Sequence[Item]]
    at_edge: bool = False

    @property
    def question(self) -> str:
        """What the verdict knows it by: a variant of a method is not that method."""
        return self.start if self.name == self.start else self.name

    def values(self) -> dict[int, float]:
        """Seed → answer NLL."""
        metrics = {s: EvaluationResult(tuple(items)).metrics for s, items in self.items.items()}
        return {seed: m["answer_nll"] for seed, m in metrics.items()}


@dataclass(frozen=True)
class Judgement:
    """What one pair's numbers allow to be said."""

    contrasts: tuple[Contrast, ...] = ()
    verdict: Verdict | None = None
    sentence: str = ""
    notes: tuple[str, ...] = field(default=())


def judge(arms: Sequence[ArmResult]) -> Judgement:
    """Compare the transfer with every other method, and the others with plain LoRA.

    The transfer is the first method that starts from the teacher and is no control. Its comparisons
    with ``FAMILY`` carry the verdict and are corrected together (Holm 1979); all others are
    exploratory and not corrected.

    Args:
        arms: in the order of the report; one with fewer than two seeds is left out.
    """
    arms = [arm for arm in arms if len(arm.items) > 1]
    transfer = next((arm for arm in arms if arm.start == TRANSFER), None)
    plain = next((arm for arm in arms if arm.question == PLAIN), None)
    exploratory = [
        _contrast(arm, plain, compare_seeds(arm.values(), plain.values()))
        for arm in arms
        if plain is not None and arm not in (plain, transfer)
    ]
    if transfer is None:
        sentence = "No method here starts from the teacher: there is nothing to say of it."
        return Judgement(tuple(exploratory), None, sentence)
    return _judge(transfer, [arm for arm in arms if arm is not transfer], exploratory)


def _judge(
    transfer: ArmResult, others: Sequence[ArmResult], exploratory: Sequence[Contrast]
) -> Judgement:
    found = {arm.name: compare_seeds(transfer.values(), arm.values()) for arm in others}
    asked = {arm.question: found[arm.name] for arm in others if arm.question in FAMILY}
    adjusted = holm({name: comparison.p_value for name, comparison in asked.items()})
    edges = [arm.question for arm in (transfer, *others) if arm.at_edge]
    labels = {**LABELS, **{arm.question: arm.name for arm in others if arm.question not in LABELS}}
    verdict = pair_verdict(asked, adjusted=adjusted, lr_at_edge=edges, labels=labels)
    outcomes = {answer.other: _OUTCOMES.get(answer.outcome, UNCLEAR) for answer in verdict.answers}
    contrasts = [
        _contrast(
            transfer,
            arm,
            found[arm.name],
            p_holm=adjusted.get(arm.question),
            outcome=outcomes.get(arm.question, "") if arm.question in FAMILY else "",
            headline=arm.question in FAMILY,
        )
        for arm in others
    ]
    seeds = min((comparison.n for comparison in found.values()), default=len(transfer.items))
    asked_of = [arm for arm in others if arm.question in FAMILY]
    notes = [describe_design(seeds, family=max(1, len(asked)))]
    if asked_of:
        notes.append(_detectable({arm.name: found[arm.name] for arm in asked_of}))
        notes += [_accuracy(transfer, asked_of), _majorities(transfer, asked_of)]
    said = tuple(dict.fromkeys((*verdict.caveats, *notes)))  # the verdict may say it already
    sentence = f"{verdict.sentence}{_ahead(others, found)}"
    return Judgement((*contrasts, *exploratory), verdict, sentence, said)


def _ahead(others: Sequence[ArmResult], found: Mapping[str, SeedComparison]) -> str:
    """Name start points of the student alone that do better, beyond those that the verdict asks.

    They are not corrected for, so that a longer list of methods does not hide the verdict; but who
    reads that a teacher helps must read beside it that something simpler helps more.
    """
    better = [
        f"{LABELS.get(arm.question, arm.name)} ({c.mean:+.3g}, {100 * c.confidence:g} % interval "
        f"{c.low:+.3g} to {c.high:+.3g}, p = {c.p_value:.2g}, not corrected, {c.n} seeds)"
        for arm in others
        if METHODS[arm.start].kind == "student-start" and arm.question not in FAMILY
        if (c := found[arm.name]).low > 0 and c.p_value < 0.05
    ]
    if not better:
        return ""
    return f" Made of the student alone and better than the transfer: {'; '.join(better)}."


def _contrast(
    arm: ArmResult,
    against: ArmResult,
    comparison: SeedComparison,
    *,
    p_holm: float | None = None,
    outcome: str = "",
    headline: bool = False,
) -> Contrast:
    effect = "" if comparison.effect is None else f", d_z {comparison.effect:+.2f}"
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
        verdict=f"{comparison.wins} of {comparison.n} seeds better{effect}",
        outcome=outcome,
        headline=headline,
    )


def _detectable(comparisons: Mapping[str, SeedComparison]) -> str:
    least = [
        f"{name} {'none' if c.detectable is None else format(c.detectable, '.4f')}"
        for name, c in comparisons.items()
    ]
    return (
        "Smallest difference that this design would see in 80 of 100 repetitions, before Holm's "
        f"correction: {', '.join(least)}."
    )


def _accuracy(transfer: ArmResult, others: Sequence[ArmResult]) -> str:
    differences = []
    for other in others:
        found = pooled_difference(transfer.items, other.items, metric="accuracy")
        interval = f"{found.low:+.3f} to {found.high:+.3f}"
        differences.append(f"{other.name} {found.mean:+.3f} (95 % interval {interval})")
    return f"Exact match, {transfer.name} minus the other: {'; '.join(differences)}. {COVERS}"


def _majorities(transfer: ArmResult, others: Sequence[ArmResult]) -> str:
    found = {other.name: majority_mcnemar(transfer.items, other.items) for other in others}
    adjusted = holm({name: test.p_value for name, test in found.items()})
    counts = "; ".join(
        f"{name} {test.only_a} to {test.only_b} (p = {test.p_value:.2g}, Holm {adjusted[name]:.2g})"
        for name, test in found.items()
    )
    return (
        f"Items that most seeds answer rightly with {transfer.name} alone to those with the other "
        f"alone (exact McNemar): {counts}. The test covers other items, not other training seeds."
    )


def about(start: str) -> tuple[str, str]:
    """Return a method's kind and what it is, as the page's list of methods wants them."""
    method = METHODS[start]
    if method.is_control:
        return "control", f"{method.start}. {method.tells}"
    kind = "method" if method.kind == "transfer" else "baseline"
    return kind, f"{method.start} ({method.source})"
