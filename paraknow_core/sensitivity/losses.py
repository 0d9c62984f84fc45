"""The loss of a sample's answer, and those of a batch of samples."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.models.chunked_logits import final_states
from paraknow_core.models.modules import learned_positions
from paraknow_core.sensitivity.batches import Batch
from paraknow_core.sensitivity.chunked_head import chunked_losses, goes_in_chunks
from paraknow_core.sensitivity.gradient_sums import GradientSums

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def answer_loss(
    model: "PreTrainedModel",
    sample: TokenisedExample,
    *,
    device: str | torch.device | None = None,
    sums: GradientSums | None = None,
) -> Tensor:
    """The mean cross-entropy of a sample's answer tokens, each given all tokens before it.

    The head runs only where a token is predicted, and tokens after the last such place are left
    out: neither changes the value.

    Args:
        model: a causal language model of Transformers.
        sample: unshifted labels, ``NO_LOSS`` on the prompt.
        device: where its tokens are put; None for where the model's parameters are.
        sums: that the backward pass adds to; given them, many logits are never whole.

    Returns:
        A float32 scalar (float64 for a float64 model), whatever the compute dtype.
    """
    device = device or model.device
    labels = torch.tensor(sample.labels[1:], device=device)  # position p predicts token p + 1
    positions = (labels != NO_LOSS).nonzero().flatten()
    ids = torch.tensor(sample.input_ids, device=device)[: int(positions[-1]) + 1]
    if sums is not None and goes_in_chunks(model, len(positions), sums):
        states_NH = final_states(model, input_ids=ids[None])[0, positions]
        return chunked_losses(model, states_NH, labels[positions], [len(positions)], sums)[0]
    output: Any = model(input_ids=ids[None], logits_to_keep=positions, use_cache=False)
    logits = output.logits[0]
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return torch.nn.functional.cross_entropy(logits, labels[positions])


def answer_losses(
    model: "PreTrainedModel", batch: Batch, *, sums: GradientSums | None = None
) -> Tensor:
    """``answer_loss`` of each sample of a batch; the head runs on no padding.

    Args:
        model: as for ``answer_loss``.
        batch: on the model's device.
        sums: as for ``answer_loss``.

    Returns:
        B float32 (float64 for a float64 model), the same but for rounding.
    """
    inputs = {"input_ids": batch.ids}
    if learned_positions(model) is not None:
        inputs["position_ids"] = batch.positions  # a row for each sample, so a gradient for each
    if sums is not None and goes_in_chunks(model, len(batch.keep), sums):
        states_KH = final_states(model, **inputs).flatten(0, 1)[batch.keep]
        return chunked_losses(model, states_KH, batch.labels, batch.predicted, sums)

    def predicting(_head: object, states: tuple[Tensor]) -> tuple[Tensor]:
        return (states[0].flatten(0, 1)[None, batch.keep],)

    whole: Any = model
    handle = whole.get_output_embeddings().register_forward_pre_hook(predicting)
    try:
        logits_KV = whole(**inputs, use_cache=False).logits[0]
    finally:
        handle.remove()
    if logits_KV.dtype in (torch.bfloat16, torch.float16):
        logits_KV = logits_KV.float()
    of_samples = (torch.split(each, list(batch.predicted)) for each in (logits_KV, batch.labels))
    losses = [torch.nn.functional.cross_entropy(*pair) for pair in zip(*of_samples, strict=True)]
    return torch.stack(losses)
