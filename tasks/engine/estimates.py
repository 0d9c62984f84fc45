"""What steps are expected to need, from the sizes of models and data that are known beforehand."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from paraknow_core.data import read_split
from paraknow_core.models.describe import Architecture
from tasks.engine.json_files import read_json

CHARACTERS_A_TOKEN = 4
"""Of English text with a large vocabulary; an estimate only."""


@dataclass(frozen=True)
class Estimate:
    """What a step is expected to need; None where that cannot be known beforehand."""

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a plan knows of a step's inputs before it runs.

    Attributes:
        folders: role → folder, for inputs whose content is known.
        sizes: role → bytes, for inputs whose size at least is known or estimated.
        row_tokens: tokens of a row, where there is no data to count them in.
    """

    folders: Mapping[str, Path] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    row_tokens: int | None = None

    def architecture(self, role: str) -> Architecture:
        """Return an acquired model's sizes; the step must be sized by this role."""
        return Architecture.from_json(read_json(self.folders[role] / "architecture.json"))


def adapter_bytes(model: Architecture, roles: Collection[str], rank: int) -> int:
    """Return the bytes of an adapter's float32 factors."""
    shapes = [matrix.whole for matrix, *_ in model.modules(roles).values()]
    return sum(4 * rank * (rows + cols) for rows, cols in shapes)


def bytes_each(compute_dtype: str) -> int:
    """Return the bytes that one weight takes while it is computed with."""
    return 2 if compute_dtype == "bfloat16" else 4


def tokens_of(known: Foreseen, split: str) -> int | None:
    """Return about how many tokens a split has, or None while the data is not known."""
    lengths = _lengths(known, split)
    return None if lengths is None else sum(lengths)


def longest_row(known: Foreseen, split: str, *, cutoff: int | None = None) -> int:
    """Return about how many tokens the longest row has; 0 while that is not known."""
    longest = known.row_tokens or max(_lengths(known, split) or [0])
    return longest if cutoff is None else min(longest, cutoff)


def _lengths(known: Foreseen, split: str) -> list[int] | None:
    if "data" not in known.folders:
        return None
    return [
        (len(row.prompt) + len(row.answer)) // CHARACTERS_A_TOKEN + len(row.input_ids or ())
        for row in read_split(known.folders["data"] / f"{split}.parquet")
    ]
