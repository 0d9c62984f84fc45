"""When a training counts as diverged: by its loss, compared with that of the untouched student.

A diverged training is a result of its own kind. Its learning rate is never chosen, and it enters no
mean and no comparison; reports count such trainings instead.
"""

import math

from paraknow_core.errors import DivergedError, NumericsError

FACTOR = 2.0
"""A loss above this many times the untouched student's is a divergence.

Overfitting, that is training on too few examples for too long, can raise the validation loss too,
but by tenths, not to twice that of the untouched student.
"""

EVEN, KNOWING = 0.999, 0.98
"""Shares of ln(vocabulary size), the loss of a model that gives every token the same chance.

A huge step can saturate a student so far that it does just that: its loss is finite, and small
compared with a loss that exploded. A loss of ``EVEN`` or more counts as that, if the untouched
student's was below ``KNOWING``; a student that knew no more than that before cannot lose it.
"""

RULE = (
    "Diverged is a training that ended in a loss that is not finite, has an infinite perplexity, "
    f"is above {FACTOR:g} times the untouched student's, or is as high as giving every token the "
    "same chance, where the untouched student did better. It is never chosen, and enters no mean "
    "and no difference."
)


def perplexity(nll: float) -> float:
    """The exponential of a mean NLL; infinite where that is beyond what a float can hold."""
    return math.exp(nll) if nll < 700 else math.inf  # math.exp overflows above 709


def check_loss(
    nll: float | None,
    *,
    untouched: float | None,
    vocabulary: int | None = None,
    what: str,
    beside: str = "the untouched student's",
) -> None:
    """Refuse a loss that says that the training diverged.

    Args:
        nll: in nats a token; None stands for one that was not finite.
        untouched: the loss of the student before training; None where that is not known.
        vocabulary: number of tokens; None leaves out the rule about equal chances.
        what: what the message calls the loss, such as ``validation loss``.
        beside: what the message calls the untouched student's loss.

    Raises:
        DivergedError: says which rule it broke, with both numbers.
    """
    if nll is None or not math.isfinite(nll):
        raise DivergedError(f"diverged: its {what} is not finite")
    if math.isinf(perplexity(nll)):
        raise DivergedError(f"diverged: its {what} is {nll:.4g}, and its perplexity infinite")
    if untouched is None or nll <= untouched:
        return
    told = f"its {what} is {nll:.4g}, {beside} {untouched:.4g}"
    if nll > FACTOR * untouched:
        raise DivergedError(f"diverged: {told}; more than {FACTOR:g} times that is a divergence")
    even = math.inf if vocabulary is None else math.log(vocabulary)
    if nll >= EVEN * even and untouched < KNOWING * even:
        raise DivergedError(
            f"diverged: {told}; giving each of {vocabulary} tokens the same chance is {even:.4g}"
        )


def check_start(name: str, value: float) -> None:
    """Refuse a loss or gradient that is NaN or infinite before anything was trained.

    Raises:
        NumericsError: says that the learning rate is not the cause.
    """
    if not math.isfinite(value):
        raise NumericsError(
            f"The {name} is {value} in the first step, before anything was trained: the student, "
            "its start point or the data hold numbers that overflow. Train in float32, and look "
            "at what the start point was made from."
        )
