"""The part of a page's data that says how the methods did."""

from dataclasses import dataclass

from paraknow_core.strict_model import Part


@dataclass(frozen=True, kw_only=True)
class Score(Part):
    """One method's result on test, over its paired seeds.

    Attributes:
        method: a method's name.
        mean: of the comparison's metric, over seeds.
        values: of each seed, in the order of the seeds.
        accuracy: exact match, 0..1, mean over seeds.
        learning_rate: the one chosen on validation.
        chosen_from: how many learning rates were tried.
    """

    method: str
    mean: float | None
    values: tuple[float | None, ...] = ()
    accuracy: float | None = None
    learning_rate: float | None = None
    chosen_from: int | None = None


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
        value: the metric on validation; None: it failed or diverged.
        chosen: whether it is the one that was used on test.
    """

    method: str
    learning_rate: float
    value: float | None
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer(Part):
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
    answers: tuple[Answer, ...] = ()
