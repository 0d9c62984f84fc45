"""The settings of a teacher that was tuned from another model, of one run and of a comparison."""

from typing import Annotated

from pydantic import Field

from paraknow_core.setting_types import PathOrHubId
from tasks.acquire_model import ModelConfig

TeacherBase = Annotated[
    ModelConfig | None,
    Field(
        title="Teacher's base",
        description="The model that the teacher was tuned from; theseus moves what tuning changed.",
    ),
]
TeacherAdapter = Annotated[
    PathOrHubId,
    Field(
        title="Teacher's adapter",
        description="In place of a base: a PEFT folder that was tuned on the teacher; theseus "
        "moves its product. Other methods see the teacher without it.",
    ),
]
