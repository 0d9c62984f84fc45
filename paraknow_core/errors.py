"""The exceptions of the core: what was given, what is allowed, and what to do next."""

from collections.abc import Mapping, Sequence
from typing import Any


class ParaknowError(Exception):
    """Base of every error a user of ``paraknow_core`` is expected to meet."""


class ModelFolderError(ParaknowError):
    """A model folder is missing, incomplete, or holds weights in a refused format."""


class HubUnreachableError(ModelFolderError):
    """The Hub could not be reached just now; the only error that is worth a retry."""


class CheckpointError(ParaknowError):
    """A safetensors file is truncated, corrupt, hostile, or disagrees with its config or index."""


class ArchitectureError(ParaknowError):
    """A model is of a kind that is not supported, or its config is out of range."""


class ShapeError(ParaknowError):
    """A teacher matrix cannot be cut to the student's shape."""


class RankError(ParaknowError):
    """A rank is outside what the matrices or the stored factors allow."""


class DataError(ParaknowError):
    """A data file, line, split or template cannot be used."""


class TokenizerError(ParaknowError):
    """A tokenizer does not fit the model, or two tokenizers do not fit each other."""


class ConfigError(ParaknowError):
    """A setting is unknown, missing or out of range."""


class BudgetError(ParaknowError):
    """A plan would take more than it may."""


class NumericsError(ParaknowError):
    """A computation gave NaN or infinity, or failed its own certificate."""


class DivergedError(NumericsError):
    """A training's loss exploded: a result of its learning rate, not a fault of the program.

    It would be the same the next time, so it is reported and stored like a result, and not retried.
    """

    def __init__(self, message: str, rows: Sequence[Mapping[str, float | None]] = ()) -> None:
        """Take the reason, and the training log up to the step where it ended."""
        super().__init__(message)
        self.rows = tuple(rows)

    def __reduce__(self) -> "tuple[type[DivergedError], tuple[str, tuple[Any, ...]]]":
        """Keep the log when the error travels from a worker process."""
        return type(self), (str(self), self.rows)
