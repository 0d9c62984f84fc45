"""The stages that a user names: ``--until lora`` stops after every step of that stage."""

from enum import StrEnum


class Stage(StrEnum):
    """Stages in their order."""

    ACQUIRE = "acquire"
    SENSITIVITY = "sensitivity"
    ALIGN = "align"
    EXTRACT = "extract"
    DECOMPOSE = "decompose"
    LORA = "lora"
    FINETUNE = "finetune"
    EVALUATE = "evaluate"
    REPORT = "report"


_OF_STEP = {
    "pretrain": Stage.ACQUIRE,
    "word-problems": Stage.ACQUIRE,
    "acquire-model": Stage.ACQUIRE,
    "acquire-data": Stage.ACQUIRE,
    "random-model": Stage.ACQUIRE,
    "control": Stage.DECOMPOSE,
    "plain-lora": Stage.LORA,
    "student-start": Stage.LORA,
    "contamination": Stage.ACQUIRE,
    "diagnose": Stage.REPORT,
    "likeness": Stage.REPORT,
    "comparison": Stage.REPORT,
}

_ORDER = list(Stage)


def is_within(step_name: str, until: Stage) -> bool:
    """Tell whether a step belongs to ``until`` or a stage before it."""
    stage = _OF_STEP.get(step_name) or Stage(step_name)
    return _ORDER.index(stage) <= _ORDER.index(until)
