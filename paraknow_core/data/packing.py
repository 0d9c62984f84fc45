"""Batches in which several short rows share one sequence, instead of each being padded.

Shapes: B = sequences in a batch, T = tokens of the longest row.
"""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample

LaidRow = TypeVar("LaidRow", bound=TokenisedExample)


def pack(examples: Sequence[LaidRow]) -> list[list[LaidRow]]:
    """Lay rows into as few sequences as first-fit decreasing finds, none longer than the longest.

    First-fit decreasing (Johnson, "Near-optimal bin packing algorithms", 1973) needs at most 11/9
    of the fewest possible, and one. A sequence is never longer than the longest row, so a batch
    has no more tokens than if it were padded, and attention no larger squares.

    Args:
        examples: at least one.

    Returns:
        The rows of each sequence, in their order there. It follows from the lengths alone.
    """
    room = max(len(example.input_ids) for example in examples)
    sequences: list[list[LaidRow]] = []
    left: list[int] = []
    for example in sorted(examples, key=lambda e: -len(e.input_ids)):  # stable: ties as given
        size = len(example.input_ids)
        place = next((i for i, free in enumerate(left) if free >= size), len(left))
        if place == len(left):
            sequences.append([])
            left.append(room)
        sequences[place].append(example)
        left[place] -= size
    return sequences


def collate_packed(examples: Sequence[TokenisedExample]) -> dict[str, Tensor]:
    """Pack examples, with positions that begin again at each row.

    Without an attention mask Transformers (5.17 or newer) makes one of the positions: a token sees
    those of its own row alone, and a sliding window counts within the row.

    Args:
        examples: at least one.

    Returns:
        ``input_ids``, ``position_ids`` and ``labels``, each B×T int64. What is left of a sequence
        is a row of its own, of token 0 without loss. A row's first token has no loss either, as
        nothing predicts it.
    """
    sequences = pack(examples)
    shape = (len(sequences), max(len(e.input_ids) for e in examples))
    batch = {
        "input_ids": torch.zeros(shape, dtype=torch.int64),
        "position_ids": torch.zeros(shape, dtype=torch.int64),
        "labels": torch.full(shape, NO_LOSS, dtype=torch.int64),
    }
    for number, rows in enumerate(sequences):
        begin = 0
        for example in rows:
            end = begin + len(example.input_ids)
            batch["input_ids"][number, begin:end] = torch.tensor(example.input_ids)
            batch["position_ids"][number, begin:end] = torch.arange(end - begin)
            batch["labels"][number, begin + 1 : end] = torch.tensor(
                example.labels[1:], dtype=torch.int64
            )
            begin = end
        batch["position_ids"][number, begin:] = torch.arange(shape[1] - begin)
    return batch
