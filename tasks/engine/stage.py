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

    def is_within(self, until: "Stage") -> bool:
        """Tell whether it is ``until`` or a stage before it."""
        order = list(Stage)
        return order.index(self) <= order.index(until)
