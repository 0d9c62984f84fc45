"""What the comparisons of one teacher/student pair allow to be said, in one sentence.

A sentence contains the word "teacher" only if the transfer beats plain LoRA and every control that
keeps the start point but not what the teacher learnt; `pair_verdict` says exactly when.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.metric import Metric
from paraknow_core.methods import METHODS, TRANSFER
from paraknow_core.statistics.answers import NOT_RUN, Answer, Outcome, Spoilt, answer_of
from paraknow_core.statistics.paired_seeds import SeedComparison
from paraknow_core.statistics.sentences import (
    AT_FIXED_RATES,
    NO_CAUSE,
    cause_of,
    caveats_of,
    sentence_of,
    without_the_word,
)


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
class Verdict:
    """Answers, the sentence made of them, and the caveats that belong to it.

    ``teacher`` is whether the sentence may, and does, name the teacher as the cause.
    """

    answers: tuple[Answer, ...]
    sentence: str
    caveats: tuple[str, ...]
    teacher: bool


def pair_verdict(
    comparisons: Mapping[str, SeedComparison],
    *,
    adjusted: Mapping[str, float],
    method: str = TRANSFER,
    family: int | None = None,
    metric: Metric,
    margin: float | None = None,
    lr_at_edge: Collection[str] = (),
    labels: Mapping[str, str] = MappingProxyType({}),
    is_tuned: bool = True,
    untested: Mapping[str, str] = MappingProxyType({}),
    spoilt: Mapping[str, Spoilt] = MappingProxyType({}),
    alpha: float = 0.05,
) -> Verdict:
    """Answer the questions of one pair and say in one sentence what follows.

    "Better" and "worse" need an adjusted p below ``alpha`` and an interval without 0. The sentence
    says "teacher" exactly if the answer is "better" for the method's baseline, for all controls
    that its entry requires, and for every other of its `knowledge_controls` that was run or tried,
    the learning rates were tuned, and none of these, nor of the rivals, is at the edge of its grid.
    Neither "better" nor "worse" is said in favour
    of a side that diverged in a seed in which the other did not. "No gain to explain" is said only
    where the interval excludes a gain of the margin.

    Args:
        comparisons: name of the other method to transfer minus other.
        adjusted: the same names to p-values after `holm` over the whole family.
        method: what is compared with them, a key of ``METHODS``.
        family: size of that family; by default the number of ``comparisons``.
        metric: of which they are differences.
        margin: the least gain that matters, set beforehand; by default the metric's own.
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
    least = metric.margin if margin is None else margin
    names = tuple(dict.fromkeys((*questions(method), *comparisons, *untested)))
    labels = _labels(names, labels, is_tuned=is_tuned)
    answers = tuple(
        answer_of(
            name,
            comparisons.get(name),
            adjusted.get(name),
            family=size,
            metric=metric,
            margin=least,
            alpha=alpha,
            spoilt=spoilt.get(name, Spoilt()),
            why=untested.get(name, NOT_RUN),
        )
        for name in names
    )
    beaten = _owed_to_teacher(method, {a.other: a.outcome for a in answers})
    at_edge = _fair_only_inside(method, names) & set(lr_at_edge) if is_tuned and beaten else set()
    teacher = is_tuned and beaten and not at_edge
    title = metric.title if is_tuned else f"{metric.title}{AT_FIXED_RATES}"
    sentence = sentence_of(METHODS[method].label, answers, labels, title)
    cause = NO_CAUSE
    if is_tuned:
        cause = cause_of(
            method,
            answers,
            teacher=teacher,
            at_edge=[labels.get(name, name) for name in names if name in at_edge],
            metric=metric,
            margin=least,
        )
    said = [f"{sentence} {cause}", *caveats_of(answers, lr_at_edge, labels, metric)]
    if not teacher:
        said = [without_the_word(text) for text in said]
    return Verdict(answers, said[0], tuple(said[1:]), teacher)


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


def _owed_to_teacher(method: str, outcomes: Mapping[str, Outcome]) -> bool:
    to_beat = (METHODS[method].baseline, *knowledge_controls(method, outcomes))
    return all(outcomes.get(name) == "better" for name in to_beat)


def _fair_only_inside(method: str, names: Iterable[str]) -> frozenset[str]:
    """What a better learning rate, beyond the edge of its grid, might put ahead of the transfer."""
    return frozenset((*questions(method), *knowledge_controls(method, names)))
