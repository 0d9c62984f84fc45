"""The metrics of a model's answers: one entry for each, which everything else reads.

The evaluation, its judging, reports, the page, the data set of results and its command take names,
units, directions and the rule for pooling items from here. A new metric is one function and one
line.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paraknow_core.divergence import check_loss, perplexity
from paraknow_core.errors import ConfigError, DivergedError
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import (
    Metric,
    measured,
    metric_of_benchmark,
    per_item,
    per_token,
)
from paraknow_core.registry import Registry

LOSS = "answer_nll"
"""The metric that training lowers. It is always measured, because divergence is judged by it, and
the verdict is about it unless a config names another metric."""

REPORTED = (LOSS, "perplexity", "exact_match")
"""Measured unless a config names others."""


def _nll(item: Item) -> float:
    return item.nll


def _is_right(item: Item) -> float:
    return float(item.correct)


def per_scored_item(item: Item) -> float:
    """Weigh items the same, except for those without an answer, for which nothing is right."""
    return float(item.tokens > 0)


METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "answer_nll": Metric(
            name="answer_nll",
            label="answer NLL",
            unit="nats a token",
            higher_is_better=False,
            value=_nll,
            weight=per_token,
            diverges=True,
            margin=0.02,  # 2 % of perplexity, as exp(.02) = 1.02
        ),
        "perplexity": Metric(
            name="perplexity",
            label="perplexity",
            higher_is_better=False,
            value=_nll,
            weight=per_token,
            transform=perplexity,
            digits=3,
        ),
        "exact_match": Metric(
            name="exact_match",
            label="exact match",
            higher_is_better=True,
            value=_is_right,
            weight=per_scored_item,
            is_share=True,
            is_binary=True,
            digits=3,
            margin=0.02,  # two more right answers of a hundred
        ),
        "win_rate": Metric(
            name="win_rate",
            label="win rate",
            higher_is_better=True,
            value=measured("win_rate"),
            weight=per_item,
            is_share=True,
            is_judged=True,
            digits=3,
            margin=0.02,  # two more answers of a hundred are preferred
        ),
    },
    made=metric_of_benchmark,
    form="^.+:.+$",
)


def primary_metric(name: str) -> Metric:
    """Look up the metric that a verdict is to be about.

    Raises:
        ConfigError: if there is none of that name, or it is a transform of pooled values.
    """
    metric = METRICS.choose(name)
    if metric.transform is not None:
        raise ConfigError(
            f"metric {name!r} is computed from a whole split and has no differences between "
            f"items, so it cannot be the primary one; it is reported beside {LOSS}"
        )
    return metric


def on_test_split(name: str) -> Metric:
    """Look up the metric of what is measured on the test split alone, such as the teacher itself.

    Args:
        name: of the primary metric; in place of a benchmark's, answer NLL is taken.
    """
    metric = METRICS.choose(name)
    return METRICS[LOSS] if metric.source else metric


def metrics_of(names: Iterable[str], primary: str | Metric = LOSS) -> tuple[Metric, ...]:
    """Look metrics up in the order in which a report shows them: the primary one first.

    Args:
        names: of metrics; those that are not registered are ignored.
        primary: the one that the verdict is about, or its name.
    """
    first = primary if isinstance(primary, Metric) else METRICS.choose(primary)
    rest = METRICS.among(name for name in names if name != first.name)
    return (first, *(METRICS[name] for name in rest))


@dataclass(frozen=True)
class EvaluationResult:
    """The items of a split, and the metrics that they are pooled to.

    Attributes:
        items: one a row.
        names: of the metrics.
        cut: rows whose prompt lost its beginning, as the model takes no more.
        left_out: rows that were too long and not asked.
    """

    items: tuple[Item, ...]
    names: tuple[str, ...] = REPORTED
    cut: int = 0
    left_out: int = 0

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric's value, and the numbers of ``items`` and of answer ``tokens``."""
        found = {name: METRICS[name].pooled(self.items) for name in METRICS.among(self.names)}
        tokens = sum(item.tokens for item in self.items)
        return {**found, "items": len(self.items), "tokens": tokens}

    @property
    def not_finite(self) -> int:
        """How many items have a NaN or infinite value where that says that training diverged."""
        asked = [m for name in METRICS.among(self.names) if (m := METRICS[name]).diverges]
        return sum(
            not all(math.isfinite(metric.value(item)) for metric in asked) for item in self.items
        )


def check_not_diverged(
    found: Mapping[str, float | None],
    untouched: Mapping[str, float | None] | None = None,
    *,
    vocabulary: int | None = None,
) -> None:
    """Refuse a training whose values on test say that it diverged.

    Args:
        found: metric → value; None stands for one that is not finite. Other names are ignored.
        untouched: the same for the untouched student, if it is known.
        vocabulary: number of tokens; None leaves out the rule about equal chances.

    Raises:
        DivergedError: as ``check_loss``, or names the metric that is not finite.
    """
    for name in METRICS.among(found):
        metric, value = METRICS[name], found[name]
        what = f"{metric.label} on test"
        if name == LOSS:
            before = untouched[LOSS] if untouched is not None else None
            check_loss(value, untouched=before, vocabulary=vocabulary, what=what)
        elif metric.diverges and (value is None or not math.isfinite(value)):
            raise DivergedError(f"diverged: its {what} is not finite")
