"""When a training ends before its last epoch, and which of its steps is delivered.

The rule is Prechelt's third ("Early stopping – but when?", 1998): so many validations in a row
without a better one.
"""

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from paraknow_core.setting_types import Count, CountOrNone
from paraknow_core.settings import Recipe

Nats = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class EarlyStopping(Recipe):
    """Stops when validation no longer improves, and delivers the step at which it was best."""

    patience: Count = Field(
        2, title="Patience", description="Validations in a row without a better one."
    )
    min_delta: Nats = Field(
        0.0,
        title="Least improvement",
        description="Nats a token that the validation loss must fall by to count as better.",
    )
    every: CountOrNone = Field(
        0, title="Validate every", description="Optimizer steps; 0: at the end of each epoch."
    )


def best_of(losses: Sequence[float]) -> int:
    """Return the place of the least loss, the first of equal ones."""
    return min(range(len(losses)), key=losses.__getitem__)


def is_over(losses: Sequence[float], recipe: EarlyStopping) -> bool:
    """Whether the last validations have not improved for long enough.

    Better is what is below the last better one by more than ``min_delta``, so that an improvement
    in many small steps counts as soon as they add up.

    Args:
        losses: of all validations so far.
        recipe: patience and least improvement.
    """
    mark, waited = math.inf, 0
    for loss in losses:
        if loss < mark - recipe.min_delta:
            mark, waited = loss, 0
        else:
            waited += 1
    return waited >= recipe.patience
