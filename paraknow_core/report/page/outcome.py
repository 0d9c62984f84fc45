"""The part of a page's data that says how the methods did."""

from dataclasses import dataclass, field
from typing import Self

from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import LOSS, METRICS
from paraknow_core.strict_model import Part


@dataclass(frozen=True, kw_only=True)
class Measure(Part):
    """A metric, as the page speaks of it.

    Attributes:
        name: as everywhere else in the data.
        label: in sentences and heads of columns.
        unit: of its values; empty: none.
        higher_is_better: False for a loss.
        is_share: whether values lie between 0 and 1, and are shown as per cent.
        digits: behind the decimal point.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    is_share: bool
    digits: int

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """Say of a metric what the page needs to know."""
        return cls(
            name=metric.name,
            label=metric.label,
            unit=metric.unit,
            higher_is_better=metric.higher_is_better,
            is_share=metric.is_share,
            digits=metric.digits,
        )

    @classmethod
    def usual(cls) -> Self:
        """Return what verdicts are about unless another is named."""
        return cls.of(METRICS[LOSS])

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    @property
    def better(self) -> str:
        """On which side of zero a method is better than what it is compared with."""
        return "above" if self.higher_is_better else "below"


@dataclass(frozen=True, kw_only=True)
class Score(Part):
    """One method's result on test, over its paired seeds.

    Attributes:
        method: a method's name.
        mean: of the pair's metric, over seeds.
        values: of each seed, in the order of the seeds.
        beside: name of another metric → its mean over seeds.
        learning_rate: the one chosen on validation.
        chosen_from: how many learning rates were tried.
        start: the registered name of its start point; empty: unknown.
        loss: what it was trained on, in words; empty: unknown.
        flops: operations of one seed's training; None: unknown.
        teacher_flops: operations of passes of the teacher that it builds on, done once for all.
        seconds: of one seed's training, when it was computed, mean over seeds.
    """

    method: str
    mean: float | None
    values: tuple[float | None, ...] = ()
    beside: dict[str, float | None] = field(default_factory=dict)
    learning_rate: float | None = None
    chosen_from: int | None = None
    start: str = ""
    loss: str = ""
    flops: float | None = None
    teacher_flops: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Curve(Part):
    """A loss over training, over seeds.

    Attributes:
        method: a method's name.
        split: ``train`` or ``validation``.
        steps: optimizer steps, ascending.
        mean: over seeds, at each step.
        low: the lowest seed at each step.
        high: the highest.
        seeds: how many.
    """

    method: str
    split: str
    steps: tuple[int, ...]
    mean: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    seeds: int = 1


@dataclass(frozen=True, kw_only=True)
class Trial(Part):
    """One learning rate of one method, measured on validation.

    Attributes:
        method: a method's name.
        learning_rate: AdamW's peak.
        value: the loss on validation; None: it failed or diverged.
        chosen: whether it is the one that was used on test.
    """

    method: str
    learning_rate: float
    value: float | None
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class MethodAnswer(Part):
    """What one method answered.

    Attributes:
        method: a method's name.
        text: as generated.
        correct: whether it matches; None: not judged.
        nll: of the reference answer, nats, summed over its tokens.
    """

    method: str
    text: str
    correct: bool | None = None
    nll: float | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction(Part):
    """One test row and what the methods made of it."""

    id: str
    prompt: str
    expected: str
    answers: tuple[MethodAnswer, ...] = ()
