"""What a model makes of token batches: its logits, and the loss on a held-out set's answers.

Shapes: B = sequences in a batch, T = tokens of the longest one, V = vocabulary, N = places of a
batch at which a token of an answer is predicted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.finetuning.ranks import ALONE, Ranks
from paraknow_core.models.chunked_logits import (
    ChunkLoss,
    final_states,
    loss_in_chunks,
    vocabulary_of,
)
from paraknow_core.models.logit_chunks import are_many

_READ = ("input_ids", "attention_mask", "position_ids")
"""What a model reads of a batch: all but labels and what a loss is made of besides."""

PlacesLoss = Callable[[Tensor, Tensor, slice], Tensor]
"""Logits, the tokens that come there, and which of a batch's places they are of → a scalar."""


@torch.no_grad()
def answer_loss(
    model: Any, examples: Sequence[TokenisedExample], *, batch_size: int, ranks: Ranks = ALONE
) -> float:
    """Measure the mean loss over all answer tokens of a set, in nats a token.

    Every answer token weighs the same, however the set is cut into batches. Uses no randomness,
    and leaves the model in the mode (training or evaluation) that it was in.

    Args:
        model: a causal language model.
        examples: at least one.
        batch_size: sequences at once; only memory and speed depend on it.
        ranks: processes that share the set; each of them gets the same number.

    Returns:
        The mean negative log-likelihood, accumulated in float64.
    """
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0
    for start in range(0, len(examples), batch_size)[ranks.number :: ranks.count]:
        batch = collate(examples[start : start + batch_size])
        device = next(model.parameters()).device
        summed, count = summed_loss(model, {n: t.to(device) for n, t in batch.items()}, _exact_sum)
        total += float(summed)
        tokens += count
    model.train(was_training)
    whole, of_tokens = ranks.total(total, tokens)
    return whole / of_tokens


def _exact_sum(logits_NV: Tensor, labels_N: Tensor, _part: slice) -> Tensor:
    return functional.cross_entropy(logits_NV, labels_N, reduction="none").double().sum()


def summed_loss(model: Any, batch: Mapping[str, Tensor], loss: PlacesLoss) -> tuple[Tensor, int]:
    """Run a model on a batch, and add up a loss over the places that predict an answer's token.

    Where their logits would be many, they are in memory in chunks (``chunked_logits``): the loss is
    the same but for the order of float sums, dropout masks of an adapted head are others.

    Args:
        model: a causal language model, wrapped by PEFT or not.
        batch: as for ``predictions``.
        loss: of the logits, n×V as ``predictions`` gives them, of some of the N places; with the
            tokens that come there, and which places these are.

    Returns:
        The sum, and N.
    """
    next_BT, predicts_BT = _asked(batch)
    labels_N = next_BT[predicts_BT]
    if not are_many(len(labels_N), vocabulary_of(model)):
        logits_NV, _ = predictions(model, batch)
        return loss(logits_NV, labels_N, slice(0, len(labels_N))), len(labels_N)
    states_BTH = final_states(model, **{name: batch[name] for name in _READ if name in batch})

    def of_chunk(logits_nV: Tensor, part: slice) -> Tensor:
        return loss(_at_least_float32(logits_nV), labels_N[part], part)

    given: ChunkLoss = of_chunk
    return loss_in_chunks(model, states_BTH[predicts_BT], given), len(labels_N)


def _asked(batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The token that comes after each place, and whether it is to be predicted there: B×T both."""
    next_BT = functional.pad(batch["labels"][:, 1:], (0, 1), value=NO_LOSS)
    return next_BT, next_BT != NO_LOSS


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


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
    next_BT, predicts_BT = _asked(batch)
    cut = model.get_output_embeddings().register_forward_pre_hook(
        lambda _head, args: (args[0][predicts_BT][None], *args[1:])
    )
    try:
        found = model(**{name: batch[name] for name in _READ if name in batch})
    finally:
        cut.remove()
    return _at_least_float32(found.logits[0]), next_BT[predicts_BT]


def next_token_logits(
    model: Any, batch: dict[str, Tensor], *, places: Tensor | None = None
) -> Tensor:
    """Run a model on a padded batch.

    Args:
        model: a causal language model on any device.
        batch: as ``collate`` (``paraknow_core.data.batches``) makes it.
        places: of a sequence, whose logits are wanted; None: of all T.

    Returns:
        Float32 logits, B×T×V, on the model's device.
    """
    device = next(model.parameters()).device
    some = {} if places is None else {"logits_to_keep": places.to(device)}
    logits: Tensor = model(
        input_ids=batch["input_ids"].to(device),
        attention_mask=batch["attention_mask"].to(device),
        **some,
    ).logits
    return logits.float()
