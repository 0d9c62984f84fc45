"""What a model makes of token batches: its logits, and the loss on a held-out set's answers.

Shapes: B = sequences in a batch, T = tokens of the longest one, V = vocabulary, N = places of a
batch at which a token of an answer is predicted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample

_READ = ("input_ids", "attention_mask", "position_ids")
"""What a model reads of a batch: all but labels and what a loss is made of besides."""


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
        device = next(model.parameters()).device
        logits_NV, labels_N = predictions(model, {n: t.to(device) for n, t in batch.items()})
        losses_N = functional.cross_entropy(logits_NV, labels_N, reduction="none")
        total += float(losses_N.double().sum())
        tokens += len(labels_N)
    model.train(was_training)
    return total / tokens


def predictions(model: Any, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Run a model on a batch, and its head only where an answer's token is predicted.

    With a large vocabulary the head is most of a small model's work, and its logits most of the
    memory; prompts and padding need none. Whatever a family does with its logits (Gemma 2 caps
    them) is done with these as well, as only the head's input is cut.

    Args:
        model: a causal language model, wrapped by PEFT or not.
        batch: padded or packed, as ``collate`` or ``collate_packed`` makes it (in
            ``paraknow_core.data``), on the model's device.

    Returns:
        Logits N×V in float32 (float64 of a float64 model), and the N tokens that come there.
    """
    next_BT = functional.pad(batch["labels"][:, 1:], (0, 1), value=NO_LOSS)
    predicts_BT = next_BT != NO_LOSS
    cut = model.get_output_embeddings().register_forward_pre_hook(
        lambda _head, args: (args[0][predicts_BT][None], *args[1:])
    )
    try:
        found = model(**{name: batch[name] for name in _READ if name in batch})
    finally:
        cut.remove()
    logits_NV: Tensor = found.logits[0]
    if logits_NV.dtype in (torch.bfloat16, torch.float16):
        logits_NV = logits_NV.float()
    return logits_NV, next_BT[predicts_BT]


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
