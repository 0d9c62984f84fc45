"""Token batches: what may be in them, and how they are padded.

Shapes: B = sequences in a batch, T = tokens of the longest one, V = vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import DataError


def collate(examples: Sequence[TokenisedExample]) -> dict[str, Tensor]:
    """Pad examples on the right to the longest of them.

    Args:
        examples: at least one.

    Returns:
        ``input_ids``, ``attention_mask`` and ``labels``, each B×T int64. Padding has token 0,
        mask 0 and no loss; position 0 has no loss either, as nothing predicts it.
    """
    length = max(len(e.input_ids) for e in examples)
    shape = (len(examples), length)
    batch = {
        "input_ids": torch.zeros(shape, dtype=torch.int64),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
        "labels": torch.full(shape, NO_LOSS, dtype=torch.int64),
    }
    for row, example in enumerate(examples):
        size = len(example.input_ids)
        batch["input_ids"][row, :size] = torch.tensor(example.input_ids)
        batch["attention_mask"][row, :size] = 1
        batch["labels"][row, 1:size] = torch.tensor(example.labels[1:], dtype=torch.int64)
    return batch


def check_examples(
    examples: Sequence[TokenisedExample],
    *,
    vocab_size: int,
    name: str,
    positions: int | None = None,
) -> None:
    """Refuse examples that cannot be trained on.

    Args:
        examples: to check.
        vocab_size: V; token numbers must be below it.
        name: of the split, for the message.
        positions: how many tokens an example may have; None for any number.

    Raises:
        DataError: if there are none, or one has no answer token that can be predicted, labels of
            another length, too many tokens, or a token number outside 0..V−1. Counts examples
            from 0.
    """
    if not examples:
        raise DataError(f"The {name} split has no examples; it needs at least one.")
    for index, example in enumerate(examples):
        ids, labels = example.input_ids, example.labels
        if len(ids) != len(labels):
            raise DataError(
                f"Example {index} of the {name} split has {len(ids)} tokens but {len(labels)} "
                "labels; give one label a token."
            )
        if positions is not None and len(ids) > positions:
            raise DataError(
                f"Example {index} of the {name} split has {len(ids)} tokens, but this model has "
                f"only {positions} positions. Lower the cut-off length to {positions}."
            )
        if all(label == NO_LOSS for label in labels[1:]):
            raise DataError(
                f"Example {index} of the {name} split has no answer token after its first token, "
                "so it has no loss. Remove it, or raise the cut-off length."
            )
        wrong = [i for i in ids if not 0 <= i < vocab_size]
        wrong += [v for v in labels if v != NO_LOSS and not 0 <= v < vocab_size]
        if wrong:
            raise DataError(
                f"Example {index} of the {name} split has token {wrong[0]}; the model knows "
                f"0..{vocab_size - 1}. Tokenise with the model's own tokenizer."
            )
