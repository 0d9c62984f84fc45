"""How a student learns from a teacher's outputs: the settings, and how reports call them."""

from typing import Annotated, Literal

from pydantic import Field

from paraknow_core.setting_types import Count
from paraknow_core.settings import Recipe

ANSWERS = "answers"
"""What a training without a teacher's outputs learns from."""

MixedShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
"""A share above 0: without any of it there is nothing to distil."""
Temperature = Annotated[float, Field(ge=0.01, le=1000, allow_inf_nan=False)]


class DistillationRecipe(Recipe):
    """Logit distillation (Hinton et al., arXiv 1503.02531): share · KL + (1 − share) · answer NLL.

    The KL is that of teacher to student, both at the temperature, a mean over answer tokens, as in
    TRL's ``GKDTrainer`` at β = 0 (arXiv 2306.13649, eq. 1). It is not multiplied with T²: a share
    ``s`` with that factor is the share ``s·T² / (s·T² + 1 − s)`` without it.
    """

    share: MixedShare = Field(
        0.9,
        title="Share",
        description="Of the KL in the loss; the rest is the answer's NLL. 1: the KL alone.",
    )
    temperature: Temperature = Field(
        2.0, title="Temperature", description="Of both models' distributions in the KL."
    )
    top_k: Count = Field(
        64,
        title="Top k",
        description="Tokens of each position whose probability is kept; all others are one bucket.",
    )
    teacher_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", title="Teacher's dtype", description="Of its forward pass."
    )


def loss_name(recipe: DistillationRecipe | None) -> str:
    """Name in a few words what a training's loss is made of, as columns of tables do."""
    if recipe is None:
        return ANSWERS
    kl = f"KL at temperature {recipe.temperature:g}"
    return kl if recipe.share == 1 else f"{recipe.share:g} {kl}, {1 - recipe.share:g} {ANSWERS}"
