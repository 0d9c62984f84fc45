"""What the comparisons of one teacher/student pair allow to be said, in one sentence.

A sentence contains the word "teacher" only if the transfer beats plain LoRA and every control that
keeps the start point but not what the teacher learnt; `pair_verdict` says exactly when.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.metrics import Metric
from paraknow_core.methods import METHODS, TRANSFER
from paraknow_core.statistics.design import MIN_SEEDS, describe_design, largest_family
from paraknow_core.statistics.paired_seeds import SeedComparison

Outcome = Literal["better", "no difference visible", "worse", "not tested"]

NOT_RUN = "it was not run"


def questions(method: str) -> tuple[str, ...]:
    """What every verdict about a method compares it with, in this order, whether or not it ran."""
    known = METHODS[method]
    return tuple(dict.fromkeys((known.baseline, *known.rivals, *known.controls)))


def knowledge_controls(method: str, ran: Iterable[str]) -> tuple[str, ...]:
    """Name the start points that contain nothing that a method's teacher learnt.

    Args:
        method: that the verdict is about.
        ran: names of the arms that ran; controls among them count besides the required ones.
    """
    needed = (name for name in METHODS.among(ran) if METHODS[name].is_needed_by(method))
    return tuple(dict.fromkeys((*METHODS[method].controls, *needed)))


@dataclass(frozen=True)
class Answer:
    """Is the transfer better than ``other``? ``comparison`` is transfer minus other.

    ``p_adjusted`` is after Holm's correction; ``reason`` says why there is no answer, or why a
    difference could not have been seen; otherwise it is empty.
    """

    other: str
    outcome: Outcome
    comparison: SeedComparison | None
    p_adjusted: float | None
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Answers, the sentence made of them, and the caveats that belong to it.

    ``teacher`` is whether the sentence may, and does, name the teacher as the cause.
    """

    answers: tuple[Answer, ...]
    sentence: str
    caveats: tuple[str, ...]
    teacher: bool


@dataclass(frozen=True)
class Spoilt:
    """Seeds that a comparison leaves out because one side diverged there and the other did not.

    Leaving them out favours that side: what it did worst is not counted.
    """

    first: tuple[int, ...] = ()
    other: tuple[int, ...] = ()


def pair_verdict(
    comparisons: Mapping[str, SeedComparison],
    *,
    adjusted: Mapping[str, float],
    method: str = TRANSFER,
    family: int | None = None,
    metric: Metric,
    lr_at_edge: Collection[str] = (),
    labels: Mapping[str, str] = MappingProxyType({}),
    is_tuned: bool = True,
    untested: Mapping[str, str] = MappingProxyType({}),
    spoilt: Mapping[str, Spoilt] = MappingProxyType({}),
    alpha: float = 0.05,
) -> Verdict:
    """Answer the questions of one pair and say in one sentence what follows.

    "Better" and "worse" need all of: at least `MIN_SEEDS` seeds, an adjusted p below ``alpha``
    and an interval without 0. The sentence says "teacher" exactly if the answer is "better" for
    the method's baseline, for all controls that its entry requires, and for every other of its
    `knowledge_controls` that was run or tried, and the learning rates were tuned. Neither "better"
    nor "worse" is said in favour of a side that diverged in a seed in which the other did not.

    Args:
        comparisons: name of the other method to transfer minus other.
        adjusted: the same names to p-values after `holm` over the whole family.
        method: what is compared with them, a key of ``METHODS``.
        family: size of that family; by default the number of ``comparisons``.
        metric: of which they are differences.
        lr_at_edge: methods whose chosen learning rate is the lowest or highest that was tried.
        labels: name of a method to what the sentence calls it, if not as its entry says.
        is_tuned: whether every method's learning rate was chosen by trials. Where rates were given,
            a difference may come from a rate that suits one method better: the sentence says so,
            and claims no cause.
        untested: methods that were tried but cannot be compared → why, in a few words.
        spoilt: name → seeds in which one side alone diverged.
        alpha: of the family.

    Raises:
        ConfigError: if a comparison has no adjusted p-value.
    """
    missing = sorted(comparisons.keys() - adjusted.keys())
    if missing:
        raise ConfigError(f"no Holm-adjusted p-value for {missing}; adjust over all comparisons")
    size = len(comparisons) if family is None else family
    names = tuple(dict.fromkeys((*questions(method), *comparisons, *untested)))
    labels = _labels(names, labels, is_tuned=is_tuned)
    answers = tuple(
        _answer(
            name,
            comparisons.get(name),
            adjusted.get(name),
            family=size,
            metric=metric,
            alpha=alpha,
            spoilt=spoilt.get(name, Spoilt()),
            why=untested.get(name, NOT_RUN),
        )
        for name in names
    )
    teacher = is_tuned and _owed_to_teacher(method, {a.other: a.outcome for a in answers})
    where = metric.title if is_tuned else f"{metric.title}{_AT_FIXED_RATES}"
    sentence = _sentence(METHODS[method].label, answers, labels, where)
    caveats = _caveats(answers, lr_at_edge, labels)
    if not teacher:
        sentence, caveats = _without_the_word(sentence), [_without_the_word(c) for c in caveats]
    cause = _cause(method, answers, teacher) if is_tuned else _NO_CAUSE
    return Verdict(answers, f"{sentence} {cause}", tuple(caveats), teacher)


def _labels(
    names: Collection[str], given: Mapping[str, str], *, is_tuned: bool
) -> Mapping[str, str]:
    """What sentences call the methods; where nothing was tuned, no entry's label says "tuned"."""
    entries = {name: METHODS[name].label for name in METHODS.among(names)}
    labels = {**entries, **given}
    if is_tuned:
        return labels
    own = {name for name, label in entries.items() if labels[name] == label}
    return labels | {name: labels[name].removeprefix("tuned ") for name in own}


def _answer(
    name: str,
    comparison: SeedComparison | None,
    p_adjusted: float | None,
    *,
    family: int,
    metric: Metric,
    alpha: float,
    spoilt: Spoilt,
    why: str,
) -> Answer:
    if comparison is None or p_adjusted is None:
        return Answer(name, "not tested", None, None, why)
    if comparison.n < MIN_SEEDS:
        reason = f"{comparison.n} seeds are too few to tell: at least {MIN_SEEDS} are needed"
        return Answer(name, "not tested", comparison, p_adjusted, reason)
    outside = comparison.low > 0 or comparison.high < 0
    if p_adjusted < alpha and outside:
        better = metric.is_better(comparison.mean)
        favoured = spoilt.first if better else spoilt.other
        if favoured:
            side = "the transfer" if better else "the other"
            return Answer(name, "not tested", comparison, p_adjusted, _favours(side, favoured))
        return Answer(name, "better" if better else "worse", comparison, p_adjusted, "")
    blind = family > largest_family(comparison.n, alpha)
    reason = describe_design(comparison.n, family=family, alpha=alpha) if blind else ""
    return Answer(name, "no difference visible", comparison, p_adjusted, reason)


def _favours(side: str, seeds: tuple[int, ...]) -> str:
    """Say why a difference does not count."""
    named = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    return f"{side} alone diverged in {named}, so the seeds that are left favour it"


def _owed_to_teacher(method: str, outcomes: Mapping[str, Outcome]) -> bool:
    to_beat = (METHODS[method].baseline, *knowledge_controls(method, outcomes))
    return all(outcomes.get(name) == "better" for name in to_beat)


_PHRASES: Mapping[Outcome, str] = MappingProxyType(
    {
        "better": "better than",
        "worse": "worse than",
        "no difference visible": "not visibly different from",
        "not tested": "not tested against",
    }
)


_AT_FIXED_RATES = ", at learning rates that were fixed beforehand,"
_NO_CAUSE = (
    "no rate was tuned, so nothing is said of other rates, nor of where a difference comes from."
)


def _sentence(
    label: str, answers: tuple[Answer, ...], labels: Mapping[str, str], metric: str
) -> str:
    """Words first, each followed by its numbers."""
    parts = [
        f"{_PHRASES[answer.outcome]} {labels.get(answer.other, answer.other)}{_numbers(answer)}"
        for answer in answers
    ]
    return f"In {metric} {label} is " + "; ".join(parts) + ";"


def _numbers(answer: Answer) -> str:
    c = answer.comparison
    if c is None:
        return "" if answer.reason == NOT_RUN else f" ({answer.reason})"
    if answer.outcome == "not tested":
        return f" ({answer.reason})"
    return (
        f" ({c.mean:+.3g}, {100 * c.confidence:g} % interval {c.low:+.3g} to {c.high:+.3g}, "
        f"adjusted p = {answer.p_adjusted:.2g}, {c.n} seeds)"
    )


def _cause(method: str, answers: tuple[Answer, ...], teacher: bool) -> str:
    known = METHODS[method]
    baseline = METHODS[known.baseline].label
    outcomes = {answer.other: answer.outcome for answer in answers}
    if teacher:
        return "so the gain is owed to what the teacher learnt."
    untested = [name for name in known.controls if outcomes[name] == "not tested"]
    if untested:
        words = " and ".join(METHODS[name].label for name in untested)
        return f"without {words} nothing can be said of where a difference comes from."
    if outcomes[known.baseline] == "not tested":
        return f"without a test against {baseline} nothing can be said of a gain."
    if outcomes[known.baseline] != "better":
        return f"so there is no gain over {baseline} to explain."
    return "so the gain is not shown to come from more than the start point."


def _caveats(
    answers: tuple[Answer, ...], lr_at_edge: Collection[str], labels: Mapping[str, str]
) -> list[str]:
    caveats = [
        f"lr chosen at the edge of the grid for {labels.get(name, name)}: a better one may lie "
        "outside, so that comparison may be unfair."
        for name in sorted(lr_at_edge)
    ]
    caveats += dict.fromkeys(a.reason for a in answers if a.reason and a.comparison is not None)
    for answer in answers:
        c = answer.comparison
        if c is None:
            continue
        label = labels.get(answer.other, answer.other)
        if c.left_out:
            seeds = ", ".join(map(str, c.left_out))
            caveats.append(
                f"Against {label}, seeds {seeds} have a result on one side only: left out."
            )
        if answer.outcome == "no difference visible" and c.detectable is not None:
            caveats.append(
                f"Against {label} this design would have seen a difference of {c.detectable:.2g} "
                "in 80 % of cases (before correction for several comparisons)."
            )
    return [*caveats, "Intervals cover training seeds on this test split, not other items."]


def _without_the_word(text: str) -> str:
    """Replace "teacher" in labels and names of metrics, which a user may have given."""
    return re.sub("teacher", "source model", text, flags=re.IGNORECASE)
