"""What steps are expected to need, from the sizes of models and data that are known beforehand."""

import math
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from paraknow_core.data import read_split
from paraknow_core.inspection.work import Work
from paraknow_core.models.describe import Architecture
from tasks.engine.file_memory import once_a_file
from tasks.engine.json_files import read_json

CHARACTERS_A_TOKEN = 4
"""Of English text with a large vocabulary; an estimate only."""
FORESEEN_ROWS = "foreseen-rows.json"
"""In a plan, of rows that are not here yet: split → number and lengths. No artifact has it."""


@dataclass(frozen=True)
class Estimate:
    """What a step is expected to need; None where that cannot be known beforehand.

    Attributes:
        tokens: that a model reads.
        requests: to a service outside.
        tokens_out: that the service writes at most.
        price: of its tokens, in the currency in which prices were given.
        work: what it computes, from which a plan gets its time where no like of it ever ran.
    """

    memory_bytes: int | None = None
    disk_bytes: int | None = None
    tokens: int | None = None
    requests: int | None = None
    tokens_out: int | None = None
    price: float | None = None
    work: Work | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a plan knows of a step's inputs before it runs.

    Attributes:
        folders: role → folder, for inputs whose content is known.
        sizes: role → bytes, for inputs whose size at least is known or estimated.
        row_tokens: tokens of a row, where there is no data to count them in.
        memory: asks how many bytes the step may use; None where that is not known.
        device: asks what the run computes on, ``cpu`` or ``cuda``: whose memory is estimated.
    """

    folders: Mapping[str, Path] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    row_tokens: int | None = None
    memory: Callable[[], int | None] = lambda: None
    device: Callable[[], str] = lambda: "cpu"

    def architecture(self, role: str) -> Architecture:
        """Return an acquired model's sizes; the step must be sized by this role."""
        return _architecture(self.folders[role] / "architecture.json")


def adapter_bytes(model: Architecture, roles: Collection[str], rank: int) -> int:
    """Return the bytes of an adapter's float32 factors."""
    shapes = [matrix.whole for matrix, *_ in model.modules(roles).values()]
    return sum(4 * rank * (rows + cols) for rows, cols in shapes)


def bytes_each(compute_dtype: str) -> int:
    """Return the bytes that one weight takes while it is computed with."""
    return 2 if compute_dtype == "bfloat16" else 4


def tokens_of(known: Foreseen, split: str) -> int | None:
    """Return about how many tokens a split has, or None while the data is not known."""
    return None if "data" not in known.folders else _lengths(known, split).total


def longest_row(known: Foreseen, split: str, *, cutoff: int | None = None) -> int:
    """Return about how many tokens the longest row has; 0 while that is not known."""
    longest = known.row_tokens or 0
    if not longest and "data" in known.folders:
        longest = _lengths(known, split).longest
    return longest if cutoff is None else min(longest, cutoff)


def answers_at_once(known: Foreseen, split: str, *, rows: int, cutoff: int) -> int:
    """Return about how many answer tokens the fullest of many batches has.

    Batches are drawn at random, so not all of a batch's answers are among the longest: their mean,
    and three standard deviations of a batch's sum. Half of the tokens while the data is not known.

    Args:
        known: what a plan knows.
        split: that batches are drawn from.
        rows: in a batch.
        cutoff: tokens kept of a row.
    """
    longest = longest_row(known, split, cutoff=cutoff)
    if "data" not in known.folders:
        return rows * longest // 2
    found = _lengths(known, split)
    spread = 3 * math.sqrt(rows) * found.answer_deviation
    return min(rows * longest, math.ceil(rows * found.answer_mean + spread))


def rows_of(known: Foreseen, split: str) -> int | None:
    """Return how many rows a split has, or None while that is not known."""
    return None if "data" not in known.folders else _lengths(known, split).rows


class _Lengths(NamedTuple):
    """A split's rows, and their tokens: all together, the most, of their answers; None: unknown."""

    rows: int | None
    total: int | None
    longest: int
    answer_mean: float
    answer_deviation: float


def _lengths(known: Foreseen, split: str) -> _Lengths:
    foreseen = known.folders["data"] / FORESEEN_ROWS
    if foreseen.is_file():
        told = read_json(foreseen)[split]
        return _Lengths(**told, answer_mean=told["longest"] / 2, answer_deviation=0.0)
    return _lengths_in(known.folders["data"] / f"{split}.parquet")


@once_a_file
def _lengths_in(path: Path) -> _Lengths:
    rows = read_split(path)
    each = [
        (len(row.prompt) + len(row.answer)) // CHARACTERS_A_TOKEN + len(row.input_ids or ())
        for row in rows
    ]
    answers = [
        len(row.answer) / CHARACTERS_A_TOKEN + sum(label >= 0 for label in row.labels or ())
        for row in rows
    ] or [0.0]
    return _Lengths(
        len(each),
        sum(each),
        max(each, default=0),
        statistics.fmean(answers),
        statistics.pstdev(answers),
    )


@once_a_file
def _architecture(path: Path) -> Architecture:
    return Architecture.from_json(read_json(path))
