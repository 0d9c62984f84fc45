"""What a metric is: how an item's value and weight are read, and which of two values is better."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from paraknow_core.errors import DataError
from paraknow_core.evaluation.items import Item

VALUE = "value"
"""Name of a question's value of the benchmark's metric that is looked at (``Item.measured``)."""
SHARE_MARGIN = 0.02
"""Two more right answers of a hundred: the least difference in a share that matters."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number that says how well a model answers.

    For a split it is ``transform(Σ value / Σ weight)``, summed over the items.

    Attributes:
        name: in configs, files and columns; the name that it is registered under.
        label: in sentences and tables.
        unit: of its values; empty where there is none.
        higher_is_better: False for a loss.
        value: an item's contribution to the sum.
        weight: an item's contribution to the divisor; the same whichever model answered.
        transform: applied to the pooled value; None: nothing. A transformed metric has no
            differences between items, so it can be reported but not be the primary metric.
        is_share: whether values lie between 0 and 1.
        is_binary: whether an item's value is 0 or 1 (wrong or right), so that McNemar's test fits.
        diverges: whether a value that is not finite says that a training diverged.
        is_judged: whether a judge measures it, after the evaluation, in a step of its own.
        source: title of the benchmark whose questions it is measured on; empty: the test split.
        digits: number of decimals in tables.
        margin: the least difference that matters, unless an experiment sets another. None: a
            verdict never says that there is no gain.
    """

    name: str
    label: str
    unit: str = ""
    higher_is_better: bool
    value: Callable[[Item], float]
    weight: Callable[[Item], float]
    transform: Callable[[float], float] | None = None
    is_share: bool = False
    is_binary: bool = False
    diverges: bool = False
    is_judged: bool = False
    source: str = ""
    digits: int = 4
    margin: float | None = None

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def direction(self) -> str:
        """Which of two values is the better one."""
        return "higher is better" if self.higher_is_better else "lower is better"

    @property
    def measured_on(self) -> str:
        """What items it is measured on, in words."""
        return "these questions" if self.source else "this test split"

    def is_better(self, difference: float) -> bool:
        """Tell whether a difference (first minus second value) means that the first is better."""
        return difference > 0 if self.higher_is_better else difference < 0

    def pooled(self, items: Iterable[Item]) -> float:
        """Return the value of a split; the worst possible one if that of any item is not finite."""
        known = tuple(items)
        values = [self.value(item) for item in known]
        if all(map(math.isfinite, values)):
            found = math.fsum(values) / math.fsum(map(self.weight, known))
        else:
            found = -math.inf if self.higher_is_better else math.inf
        return self.transform(found) if self.transform else found


def per_item(_item: Item) -> float:
    """Weigh every item the same."""
    return 1.0


def per_token(item: Item) -> float:
    """Weigh an item by the tokens of its answer."""
    return float(item.tokens)


def measured(name: str) -> Callable[[Item], float]:
    """Return a function that reads one of the item's other measured values (``Item.measured``).

    Args:
        name: such as ``acc``, as the evaluator calls it.
    """

    def value(item: Item) -> float:
        if name not in item.measured:
            known = ", ".join(item.measured) or "nothing"
            raise DataError(f"item {item.id!r} has no {name!r}; measured of it was {known}")
        return item.measured[name]

    return value


def metric_of_benchmark(name: str) -> Metric | None:
    """Return the metric of a benchmark that a name stands for.

    Which direction is the better one, and whether answers are right or wrong, only results say;
    ``as_measured`` puts it in.

    Args:
        name: the benchmark's title, a colon, and metric and filter as lm-evaluation-harness names
            them, such as ``hellaswag:acc_norm`` or ``gsm8k 8-shot:exact_match,strict-match``.

    Returns:
        None if it is no such name.
    """
    benchmark, colon, metric = name.rpartition(":")
    if not (colon and benchmark.strip() and metric.strip()):
        return None
    return Metric(
        name=name,
        label=f"{benchmark} {metric}",
        higher_is_better=True,
        value=measured(VALUE),
        weight=per_item,
        source=benchmark,
    )


def as_measured(metric: Metric, values: Iterable[float], *, higher_is_better: bool) -> Metric:
    """Say of a benchmark's metric what only its results tell.

    Args:
        metric: of ``metric_of_benchmark``.
        values: of all questions, whoever answered; if all are 0 or 1, they are right or wrong.
        higher_is_better: as the benchmark's definition says.
    """
    known = set(values)
    is_binary = bool(known) and known <= {0.0, 1.0}
    return replace(
        metric,
        higher_is_better=higher_is_better,
        is_share=is_binary,
        is_binary=is_binary,
        margin=SHARE_MARGIN if is_binary else None,
    )
