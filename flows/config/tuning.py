"""How each method of a comparison gets its learning rate."""

from typing import Annotated

from pydantic import Field, field_validator

from paraknow_core.setting_types import EachOnce, LearningRate, TrainingSeed
from paraknow_core.settings import Settings

Rates = Annotated[tuple[LearningRate, ...], EachOnce]
Seeds = Annotated[tuple[TrainingSeed, ...], Field(max_length=10_000), EachOnce]


class TuningConfig(Settings):
    """How each method gets its learning rate: the least validation loss, same trials for all.

    Without seeds there are no trials: each method trains at the one learning rate that it is given.
    """

    learning_rates: Rates = Field(
        (), title="Learning rates", description="Of every method; empty: each method's usual ones."
    )
    seeds: Seeds = Field(
        (1000, 1001, 1002),
        title="Seeds",
        description="Of the trials; none of the test's. Empty: no trials, each method's one "
        "learning rate is fixed, and the verdict says so.",
    )
    halving: bool = Field(
        True,
        title="Halving",
        description="Only the better half of the rates goes on to each further seed.",
    )
    refine: bool = Field(
        True,
        title="Refine",
        description="Rates halfway between the best one and its neighbours are tried too.",
    )
    extensions: int = Field(
        4,
        ge=0,
        le=20,
        title="Extensions",
        description="How many rates may be added beyond the ends of the grid, by its own ratio, "
        "until the best one lies inside.",
    )

    @field_validator("learning_rates")
    @classmethod
    def _ascending(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(rates))
