"""What a method needs of the settings; without it there is nothing for the method to do."""

from collections.abc import Callable
from typing import Protocol

from paraknow_core.alignment.matrices import VOCABULARY_ROLES
from paraknow_core.method_tables.names import OWN
from paraknow_core.methods import METHODS
from paraknow_core.registry import Registry
from tasks.acquire_model import ModelConfig
from tasks.extract import ExtractConfig


class AskedSettings(Protocol):
    """The settings of a run that a need asks for, which are those of ``TransferConfig``."""

    @property
    def teacher(self) -> ModelConfig:
        """Where the teacher comes from."""

    @property
    def student(self) -> ModelConfig:
        """Where the student comes from."""

    @property
    def other_teacher(self) -> ModelConfig | None:
        """Another teacher of the same shape, or None."""

    @property
    def other_data(self) -> object:
        """Data of another task, or None."""

    @property
    def other_problems(self) -> object:
        """Generated data of another task, or None."""

    @property
    def teacher_base(self) -> object:
        """What the teacher was tuned from, or None."""

    @property
    def teacher_adapter(self) -> str:
        """A PEFT folder of what tuning added to the teacher, or ""."""

    @property
    def extract(self) -> ExtractConfig:
        """Which roles are adapted."""


Need = Callable[[AskedSettings, str], str]
"""Takes settings and the name of a method; says what the method lacks, "" if nothing."""


def _other_data(config: AskedSettings, method: str) -> str:
    if config.other_data or config.other_problems:
        return ""
    return f"{method} needs data of another task: set other_data or other_problems"


def _other_teacher(config: AskedSettings, method: str) -> str:
    if config.other_teacher is None:
        return (
            f"{method} needs another teacher of the same shape, which learnt something else: set "
            "other_teacher beside teacher"
        )
    if config.other_teacher == config.teacher:
        return (
            f"{method} needs another teacher, but other_teacher is the teacher itself; take a "
            "model of the same shape that learnt something else"
        )
    return ""


def _something_novel(config: AskedSettings, method: str) -> str:
    """The student in its teacher's place can express all that its own tokens differ by: N = 0."""
    if METHODS[method].replacement == OWN:
        told = f"{method} puts the student in its teacher's place"
    elif config.teacher == config.student:
        told = f"{method} takes what the teacher has and the student lacks, but both are one model"
    else:
        return ""
    return (
        f"{told}: nothing that its tokens differ by is novel to it, and there is no start point "
        f"(N = 0). Leave {method} out"
    )


def _vocabulary_roles(config: AskedSettings, method: str) -> str:
    if set(VOCABULARY_ROLES) & set(config.extract.roles):
        return ""
    return (
        f"{method} takes rows of embedding and head, but extract.roles are "
        f"{', '.join(config.extract.roles)}; add embed or head, or leave {method} out"
    )


def _covered_roles(config: AskedSettings, method: str) -> str:
    covers = METHODS[method].covers
    if set(covers) & set(config.extract.roles):
        return ""
    return (
        f"{method} changes {', '.join(covers)}, but extract.roles are "
        f"{', '.join(config.extract.roles)}; add one of these, or leave {method} out"
    )


def _teacher_base(config: AskedSettings, method: str) -> str:
    if bool(config.teacher_base) != bool(config.teacher_adapter):
        return ""
    return (
        f"{method} moves what tuning changed in the teacher: set either teacher_base, to the model "
        "that its tuning began with, or teacher_adapter, to the PEFT folder that was tuned on it"
        + ("; both are given" if config.teacher_base else "")
    )


NEEDS: Registry[Need] = Registry(
    "need of a method",
    {
        "other data": _other_data,
        "other teacher": _other_teacher,
        "something novel": _something_novel,
        "vocabulary roles": _vocabulary_roles,
        "covered roles": _covered_roles,
        "teacher base": _teacher_base,
    },
)
"""Every need, by its name in ``Method.needs``."""
