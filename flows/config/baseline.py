"""The settings of plain LoRA beside a transfer."""

from pydantic import Field

from paraknow_core.setting_types import LearningRate
from paraknow_core.settings import Settings


class BaselineConfig(Settings):
    """Plain LoRA on the same data: without it a transfer's result says nothing."""

    enabled: bool = Field(True, title="Train plain LoRA too")
    learning_rate: LearningRate = Field(
        3e-4,
        title="Learning rate",
        description="Its own: inits that start from singular vectors want about half of it.",
    )
