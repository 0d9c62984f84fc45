"""A teacher's targets of a whole split: as a file, and row by row beside the tokens.

Shapes: R = rows, N = answer tokens of all rows (or of one), K = tokens kept of each.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.data.packing import collate_packed, pack
from paraknow_core.distillation.loss import TokenTargets
from paraknow_core.errors import DataError

TARGETS = "targets.safetensors"
_ABOUT = "targets"
_FIELDS = ("ids", "log_probs", "log_rest")


@dataclass(frozen=True)
class TeacherTargets:
    """What a teacher says of every answer token of a split.

    Attributes:
        tokens: of all rows one after another, each row's in the order of its answer.
        offsets: R + 1 places; row i has the tokens offsets[i] to offsets[i + 1].
        digest: of the rows that they were computed for, by ``rows_digest``.
        temperature: that they were computed at.
    """

    tokens: TokenTargets
    offsets: tuple[int, ...]
    digest: str
    temperature: float

    def row(self, number: int) -> TokenTargets:
        """The targets of one row; views, no copies."""
        part = slice(self.offsets[number], self.offsets[number + 1])
        of = self.tokens
        return TokenTargets(of.ids_NK[part], of.log_probs_NK[part], of.log_rest_N[part])


@dataclass(frozen=True)
class TaughtExample(TokenisedExample):
    """A row with what the teacher says of its answer tokens; as tokens it is the row itself."""

    targets: TokenTargets


def rows_digest(examples: Sequence[TokenisedExample]) -> str:
    """Digest the tokens and labels of rows, in their order."""
    text = repr([(e.input_ids, e.labels) for e in examples])
    return hashlib.sha256(text.encode()).hexdigest()


def offsets_of(examples: Sequence[TokenisedExample]) -> tuple[int, ...]:
    """Where each row's answer tokens begin, and where the last row's end: R + 1 numbers."""
    found = [0]
    for example in examples:
        found.append(found[-1] + answers_of(example))
    return tuple(found)


def answers_of(example: TokenisedExample) -> int:
    """Number of answer tokens that something predicts: all but one at place 0."""
    return TokenisedExample(example.input_ids[1:], example.labels[1:]).answer_tokens


def write_targets(targets: TeacherTargets, folder: Path) -> None:
    """Write ``targets.safetensors``: int32 ids, float32 logarithms, int64 offsets."""
    from safetensors.torch import save_file

    of = targets.tokens
    held = {
        "ids": of.ids_NK.to(torch.int32).contiguous(),
        "log_probs": of.log_probs_NK.contiguous(),
        "log_rest": of.log_rest_N.contiguous(),
        "offsets": torch.tensor(targets.offsets),
    }
    told = {"rows": targets.digest, "temperature": targets.temperature}
    # One entry: safetensors writes several in a random order, and the same targets are to be the
    # same bytes.
    save_file(held, folder / TARGETS, metadata={_ABOUT: json.dumps(told)})


def read_targets(folder: Path) -> TeacherTargets:
    """Read what ``write_targets`` wrote."""
    from safetensors import safe_open

    with safe_open(folder / TARGETS, framework="pt") as file:
        told = json.loads(file.metadata()[_ABOUT])
        tokens = TokenTargets(*(file.get_tensor(name) for name in _FIELDS))
        offsets = tuple(file.get_tensor("offsets").tolist())
    return TeacherTargets(tokens, offsets, told["rows"], told["temperature"])


def teach(
    examples: Sequence[TokenisedExample], targets: TeacherTargets, *, temperature: float
) -> list[TaughtExample]:
    """Put each row's targets beside its tokens.

    Raises:
        DataError: if the targets are of other rows, or of another temperature.
    """
    if targets.digest != rows_digest(examples):
        raise DataError(
            f"The teacher's targets are of {len(targets.offsets) - 1} other rows than the "
            f"{len(examples)} to train on. Compute them with the same data, tokenizer and cut-off."
        )
    if targets.temperature != temperature:
        raise DataError(
            f"The teacher's targets are of temperature {targets.temperature:g}, the training's is "
            f"{temperature:g}. Compute them at the same temperature."
        )
    return [
        TaughtExample(e.input_ids, e.labels, targets.row(number))
        for number, e in enumerate(examples)
    ]


def collate_taught(examples: Sequence[TaughtExample], *, packed: bool = False) -> dict[str, Tensor]:
    """As ``collate``, and the targets of all answer tokens, in the order of the batch.

    Args:
        examples: at least one.
        packed: several rows a sequence, as ``collate_packed``.

    Returns:
        As ``collate`` or ``collate_packed``; and ``teacher_ids`` and ``teacher_log_probs``, N×K,
        ``teacher_log_rest``, N.
    """
    laid = [e for sequence in pack(examples) for e in sequence] if packed else examples
    rows = [example.targets for example in laid]
    return (collate_packed(examples) if packed else collate(examples)) | {
        "teacher_ids": torch.cat([row.ids_NK for row in rows]),
        "teacher_log_probs": torch.cat([row.log_probs_NK for row in rows]),
        "teacher_log_rest": torch.cat([row.log_rest_N for row in rows]),
    }


def take_targets(batch: dict[str, Tensor]) -> TokenTargets:
    """Take the targets out of a batch of ``collate_taught``, leaving what is for a model."""
    return TokenTargets(*(batch.pop(f"teacher_{name}") for name in _FIELDS))
