"""What steps that match the tokens of two models have in common: a setting, and their identity."""

from collections.abc import Mapping
from typing import Any

from artifacts.names import Digest
from paraknow_core.settings import execution
from tasks.engine.ref import Ref


def least_vocabulary_share() -> Any:
    """The field ``min_vocabulary_share`` of a step's settings; its type is ``Share``."""
    return execution(
        0.5,
        title="Least vocabulary share",
        description="How many of the student's tokens the teacher must have.",
    )


def tokenizer_digests(inputs: Mapping[str, Ref]) -> dict[str, Digest]:
    """Name the tokenizers that say which rows are tokens, and which token a row belongs to.

    Args:
        inputs: of the step, with a student, a teacher and maybe the teacher's base.

    Returns:
        Name within the step's key → digest of ``tokenizer.json``.
    """
    models = (who for who in ("teacher", "base", "student") if who in inputs)
    return {f"{who}.tokenizer": Digest(inputs[who].files["tokenizer.json"]) for who in models}
