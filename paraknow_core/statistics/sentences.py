"""How a verdict's answers are said: words first, each followed by its numbers."""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType

from paraknow_core.evaluation.metric import Metric
from paraknow_core.methods import METHODS
from paraknow_core.statistics.answers import NOT_RUN, Answer, Outcome
from paraknow_core.statistics.paired_seeds import SeedComparison

AT_FIXED_RATES = ", at learning rates that were fixed beforehand,"
NO_CAUSE = (
    "no rate was tuned, so nothing is said of other rates, nor of where a difference comes from."
)
_PHRASES: Mapping[Outcome, str] = MappingProxyType(
    {
        "better": "better than",
        "worse": "worse than",
        "no difference visible": "not visibly different from",
        "not tested": "not tested against",
    }
)


def sentence_of(
    label: str, answers: tuple[Answer, ...], labels: Mapping[str, str], title: str
) -> str:
    """Say every answer.

    Args:
        label: of the method that the verdict is about.
        answers: in their order.
        labels: name → how the sentence calls a method.
        title: what was measured, and if need be under which conditions.
    """
    parts = [
        f"{_phrase(answer)} {labels.get(answer.other, answer.other)}{_numbers(answer)}"
        for answer in answers
    ]
    return f"In {title} {label} is " + "; ".join(parts) + ";"


def _phrase(answer: Answer) -> str:
    """Where nothing could be shown, say what the seeds did, which is no claim about others."""
    c = answer.comparison
    if answer.outcome != "out of reach" or c is None:
        return _PHRASES[answer.outcome]
    if c.wins == c.n:
        return "better on every seed than"
    if c.losses == c.n:
        return "worse on every seed than"
    return f"better on {c.wins} and worse on {c.losses} of {c.n} seeds than"


def numbers_of(c: SeedComparison) -> str:
    """A mean with its interval."""
    return f"{c.mean:+.3g}, {100 * c.confidence:g} % interval {c.low:+.3g} to {c.high:+.3g}"


def _numbers(answer: Answer) -> str:
    c = answer.comparison
    if c is None:
        return "" if answer.reason == NOT_RUN else f" ({answer.reason})"
    if answer.outcome == "not tested":
        return f" ({answer.reason})"
    if answer.outcome == "out of reach":
        return f" ({numbers_of(c)}; {answer.reason})"
    return f" ({numbers_of(c)}, adjusted p = {answer.p_adjusted:.2g}, {c.n} seeds)"


def cause_of(
    method: str,
    answers: tuple[Answer, ...],
    *,
    teacher: bool,
    at_edge: Collection[str],
    metric: Metric,
    margin: float | None,
) -> str:
    """Say where a gain comes from, as far as the answers allow; the end of the sentence.

    Args:
        method: what the verdict is about, a key of ``METHODS``.
        answers: to all of its questions.
        teacher: whether the sentence may name the teacher.
        at_edge: labels of methods with a learning rate at the edge of its grid, where nothing else
            stands in the way of naming it.
        metric: that was measured.
        margin: the least gain that matters; None: not set.
    """
    known = METHODS[method]
    baseline = METHODS[known.baseline].label
    given = {answer.other: answer for answer in answers}
    if teacher:
        return "so the gain is owed to what the teacher learnt."
    if at_edge:
        return (
            f"but the best learning rate of {' and '.join(at_edge)} lies at the edge of those that "
            "were tried, so the gain may be owed to the rate."
        )
    untested = [name for name in known.controls if given[name].outcome == "not tested"]
    if untested:
        words = " and ".join(METHODS[name].label for name in untested)
        return f"without {words} nothing can be said of where a difference comes from."
    return _of_gain(given[known.baseline], baseline, metric, margin)


def _of_gain(against: Answer, baseline: str, metric: Metric, margin: float | None) -> str:
    """Say whether there is a gain over plain LoRA, where it is not owed to the teacher."""
    if against.outcome == "not tested":
        return f"without a test against {baseline} nothing can be said of a gain."
    if against.outcome == "better":
        return "so the gain is not shown to come from more than the start point."
    if against.outcome == "worse":
        return f"so there is no gain over {baseline} to explain."
    if against.excludes_gain:
        return (
            f"a gain of {margin:g} or more over {baseline} is excluded, so there is no gain to "
            "explain."
        )
    return f"so a gain over {baseline} is not shown{_still_possible(margin, metric)}."


def _still_possible(margin: float | None, metric: Metric) -> str:
    if margin is None:
        return f", nor excluded: no margin is set for {metric.label}"
    return f", nor is one of {margin:g}, which would matter, excluded"


def caveats_of(
    answers: tuple[Answer, ...],
    lr_at_edge: Collection[str],
    labels: Mapping[str, str],
    metric: Metric,
) -> list[str]:
    """What has to be known beside the sentence, one sentence each."""
    caveats = [
        f"lr chosen at the edge of the grid for {labels.get(name, name)}: a better one may lie "
        "outside, so that comparison may be unfair."
        for name in sorted(lr_at_edge)
    ]
    told = (a for a in answers if a.reason and a.comparison is not None)
    caveats += dict.fromkeys(a.reason for a in told if a.outcome != "out of reach")
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
    return [*caveats, f"The sentence's intervals cover training seeds on {metric.measured_on}."]


def without_the_word(text: str) -> str:
    """Replace "teacher" in labels and names of metrics, which a user may have given."""
    return re.sub("teacher", "source model", text, flags=re.IGNORECASE)
