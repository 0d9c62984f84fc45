"""What a model makes of token batches: its logits, and the loss on a held-out set's answers.

Shapes: B = sequences in a batch, T = tokens of the longest one, V = vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample


@torch.no_grad()
def answer_loss(model: Any, examples: Sequence[TokenisedExample], *, batch_size: int) -> float:
    """Measure the mean loss over all answer tokens of a set, in nats a token.

    Every answer token weighs the same, however the set is cut into batches. Uses no randomness,
    and leaves the model in the mode (training or evaluation) that it was in.

    Args:
        model: a causal language model.
        examples: at least one.
        batch_size: sequences at once; only memory and speed depend on it.

    Returns:
        The mean negative log-likelihood, accumulated in float64.
    """
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    for start in range(0, len(examples), batch_size):
        batch = collate(examples[start : start + batch_size])
        logits = next_token_logits(model, batch)
        labels = batch["labels"][:, 1:].to(logits.device)
        flat = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels.flatten(), ignore_index=NO_LOSS, reduction="none"
        )
        total += float(flat.double().sum())
        tokens += int((labels != NO_LOSS).sum())
    model.train(was_training)
    return total / tokens


def next_token_logits(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Run a model on a padded batch.

    Args:
        model: a causal language model on any device.
        batch: as ``collate`` (``paraknow_core.data.batches``) makes it.

    Returns:
        Float32 logits, B×T×V, on the model's device.
    """
    device = next(model.parameters()).device
    logits: Tensor = model(
        input_ids=batch["input_ids"].to(device), attention_mask=batch["attention_mask"].to(device)
    ).logits
    return logits.float()
