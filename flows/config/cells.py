"""The settings of a comparison's cells: pairs of models, and tasks."""

from typing import Any

from pydantic import Field, model_validator

from flows.config.tuned_teacher import TeacherAdapter, TeacherBase
from flows.presets.expand import with_presets
from paraknow_core.setting_types import Text
from paraknow_core.settings import Settings
from tasks.acquire_model import ModelConfig
from tasks.evaluate import EvaluateConfig
from tasks.judging.config import JudgeConfig
from tasks.rows.config import DataConfig
from tasks.word_problems import WordProblemsConfig

NAME = r"^[A-Za-z0-9][\w.-]{0,63}$"
"""Of a pair, a task, a method."""


class PairConfig(Settings):
    """One teacher and one student."""

    name: str = Field(pattern=NAME, title="Name")
    teacher: ModelConfig = Field(title="Teacher")
    student: ModelConfig = Field(title="Student")
    other_teacher: ModelConfig | None = Field(
        None,
        title="Another teacher",
        description="Of the same shape and tokenizer, which learnt something else; for the "
        "controls other-teacher and novel-other.",
    )
    teacher_base: TeacherBase = None
    teacher_adapter: TeacherAdapter = ""


class TaskConfig(Settings):
    """What is learned and measured."""

    name: str = Field(pattern=NAME, title="Name")
    task: Text = Field(
        "",
        title="Task",
        description="Whose data and evaluation are used where none are given: a name that "
        "`paraknow tasks` lists, or a YAML file.",
    )
    data: DataConfig = Field(DataConfig(), title="Data")
    problems: WordProblemsConfig | None = Field(None, title="Word problems")
    other_data: DataConfig | None = Field(
        None,
        title="Data of another task",
        description="For the control other-seeds; only its seeds are used.",
    )
    other_problems: WordProblemsConfig | None = Field(
        None, title="Generated data of another task", description="In place of other_data."
    )
    evaluate: EvaluateConfig | None = Field(
        None, title="Evaluate", description="In place of the comparison's own, for this task."
    )
    judge: JudgeConfig | None = Field(
        None, title="Judge", description="Over the comparison's own, for this task."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, given: Any) -> Any:
        return with_presets({"task": given} if isinstance(given, str) else given)
