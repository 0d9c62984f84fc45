"""What a check of the installation found, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is: a failure ends ``paraknow doctor`` with 1, a warning does not."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One checked thing.

    Attributes:
        topic: what was checked, in a word or two.
        state: how bad it is.
        found: what is there; never a secret.
        advice: what to do, empty if nothing is.
    """

    topic: str
    state: State
    found: str
    advice: str = ""
