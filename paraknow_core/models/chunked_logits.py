"""Logits in chunks: never all of them at once, where they would be many.

With a vocabulary of 128,000, the logits of 2,048 places are 1 GB, and a loss and its gradient three
times that. So a model is run up to its head, and the head on a few places at a time. Whatever a
family does with its logits (Gemma 2 caps them), and whatever an adapter adds to the head, is done
as ever: it is the model's own forward pass that runs, with its layers replaced by their result.

Fewer than ``CHUNK_ELEMENTS`` logits (``logit_chunks``) are computed at once, as if this module were
not there.

Shapes: N = places whose next token is predicted, n = those of a chunk, H = width, V = vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from paraknow_core.models.logit_chunks import chunks

Head = Callable[[Tensor], Tensor]
"""Final hidden states n×H → logits n×V."""

ChunkLoss = Callable[[Tensor, slice], Tensor]
"""Logits n×V and which of the N places they are of → a scalar, summed over these places."""


def vocabulary_of(model: Any) -> int:
    """How many logits a place has."""
    return int(_plain(model).config.vocab_size)


def final_states(model: Any, **inputs: Any) -> Tensor:
    """What goes into a model's head, B×T×H.

    Args:
        model: a causal language model of Transformers, wrapped by PEFT or not.
        inputs: token numbers, masks, positions, as the model takes them.
    """
    states: Tensor = _plain(model).base_model(**inputs, use_cache=False).last_hidden_state
    return states


@contextmanager
def head_alone(model: Any, *, after_head: bool = False) -> Iterator[Head]:
    """Yield what a model does after its last layer and norm: from final states to logits.

    Args:
        model: a causal language model of Transformers, wrapped by PEFT or not. Its layers cannot
            be run inside the context.
        after_head: begin after the head: what is given are its outputs, and of its modules none
            runs.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

    plain = _plain(model)
    base = plain.base_model
    given: list[Tensor] = []

    def run(states_nH: Tensor) -> Tensor:
        given.append(states_nH[None])
        try:
            logits: Tensor = plain(use_cache=False).logits[0]
        finally:
            given.clear()
        return logits

    base.forward = lambda *_, **__: BaseModelOutputWithPastAndCrossAttentions(
        last_hidden_state=given[-1]
    )
    head = plain.get_output_embeddings()
    try:
        if after_head:
            plain.set_output_embeddings(torch.nn.Identity())
        yield run
    finally:
        plain.set_output_embeddings(head)
        del base.forward  # the class's own is there again


def loss_in_chunks(model: Any, states_NH: Tensor, loss: ChunkLoss) -> Tensor:
    """Add up a loss over places; its gradient is computed chunk by chunk beside it.

    A chunk's backward pass follows its forward pass at once, so nothing is computed twice. Only the
    gradients of the states and of what is trained in the head are kept, and multiplied by the
    gradient that arrives in the backward pass: that of a sum is the same for all places. (Liger's
    fused linear cross-entropy, arXiv 2410.10989, section 3.2, does so in one GPU kernel.)

    Args:
        model: a causal language model; its trainable parameters get gradients.
        states_NH: final states, of which the loss is asked.
        loss: of each chunk; called once for each, in order, with gradients enabled if they are.

    Returns:
        The sum, a scalar.
    """
    trained = [p for p in model.parameters() if p.requires_grad] if torch.is_grad_enabled() else []
    total: Tensor = _LossInChunks.apply(model, loss, states_NH, *trained)  # type: ignore[no-untyped-call]
    return total


class _LossInChunks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, model: Any, loss: ChunkLoss, states_NH: Tensor, *trained: Tensor
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad)
        found: list[Tensor | None] = [None] * len(trained)
        gradient_NH = torch.empty_like(states_NH) if wanted else None
        totals = []
        with torch.set_grad_enabled(wanted), head_alone(model) as head:
            for part in chunks(len(states_NH), vocabulary_of(model)):
                states_nH = states_NH[part].detach().requires_grad_(wanted)
                total = loss(head(states_nH), part)
                totals.append(total.detach())
                if gradient_NH is not None:
                    each = torch.autograd.grad(total, [states_nH, *trained], allow_unused=True)
                    gradient_NH[part] = each[0]
                    found = [_added(a, b) for a, b in zip(found, each[1:], strict=True)]
                del total
        ctx.gradients = (gradient_NH, *found)
        return torch.stack(totals).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return None, None, *(g if g is None else g * gradient for g in ctx.gradients)


def _added(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one.add_(other)


def _plain(model: Any) -> Any:
    """The model of Transformers that PEFT wraps, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
