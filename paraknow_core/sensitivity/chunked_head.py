"""A head's loss and its matrix's gradient without ever holding all logits.

The absolute value of a gradient can be taken only when it is whole: summed over all places of a
sample. So the gradients of the states come from chunks of places, as in ``chunked_logits``, but the
gradient of the matrix is computed in its backward pass from chunks of the vocabulary: their logits,
at all places, are computed once more (a third more of the head's products), and with each place's
normaliser, known from before, they are enough for the rows of these tokens.

The values are those of one product and one softmax, but for the order of float sums.

Shapes: B = samples, N = places of all of them with a loss, n = those of a chunk, H = width,
V = vocabulary, v = tokens of a chunk.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from paraknow_core.models.chunked_logits import Head, head_alone, vocabulary_of
from paraknow_core.models.logit_chunks import are_many, chunks
from paraknow_core.sensitivity.gradient_sums import GradientSums


def goes_in_chunks(model: Any, places: int, sums: GradientSums) -> bool:
    """Whether the logits of so many places are too many, and the head is one that can be cut."""
    head = model.get_output_embeddings()
    can = sums.takes_rows(head) and head.bias is None
    return can and are_many(places, vocabulary_of(model))


def chunked_losses(
    model: Any, states_NH: Tensor, labels_N: Tensor, places: Sequence[int], sums: GradientSums
) -> Tensor:
    """Each sample's mean cross-entropy; the backward pass adds the head's gradient to ``sums``.

    Args:
        model: a causal language model of Transformers whose ``goes_in_chunks`` is true.
        states_NH: what goes into its head, with a gradient.
        labels_N: the tokens that come there.
        places: how many of N are each sample's, one sample after the other.
        sums: while they are used as a context.

    Returns:
        B float32 (float64 for a float64 model).
    """
    losses: Tensor = _ChunkedLosses.apply((model, sums), states_NH, labels_N, tuple(places))  # type: ignore[no-untyped-call]
    return losses


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        used: tuple[Any, GradientSums],
        states_NH: Tensor,
        labels_N: Tensor,
        places: tuple[int, ...],
    ) -> Tensor:
        model, sums = used
        head = model.get_output_embeddings()
        weight_VH = head.weight.detach()
        gradient_NH = torch.empty_like(states_NH)
        losses, normalisers = [], []
        repeats_B = torch.tensor(places, device=states_NH.device)
        divisor_N = repeats_B.repeat_interleave(repeats_B)
        with _outputs(model) as logits_of:
            for part in chunks(len(states_NH), len(weight_VH)):
                raw_nV = functional.linear(states_NH[part], weight_VH)
                with torch.enable_grad():
                    logits_nV = logits_of(raw_nV.requires_grad_())
                    loss_n = functional.cross_entropy(logits_nV, labels_N[part], reduction="none")
                    loss_n = loss_n / divisor_N[part]
                    (raw_nV,) = torch.autograd.grad(loss_n.sum(), raw_nV)
                normalisers.append(logits_nV.detach().logsumexp(1))
                losses.append(loss_n.detach())
                torch.mm(raw_nV, weight_VH, out=gradient_NH[part])
                del raw_nV, logits_nV, loss_n
        ctx.model, ctx.sums, ctx.head, ctx.repeats_B = model, sums, head, repeats_B
        ctx.save_for_backward(states_NH, labels_N, gradient_NH, torch.cat(normalisers))
        of_samples = torch.split(torch.cat(losses), list(places))
        return torch.stack([loss.sum() for loss in of_samples])

    @staticmethod
    def backward(ctx: Any, gradient_B: Tensor) -> Any:
        states_NH, labels_N, gradient_NH, normalisers_N = ctx.saved_tensors
        weight_VH = ctx.head.weight.detach()
        gradient_N = gradient_B.repeat_interleave(ctx.repeats_B)
        share_N = gradient_N / ctx.repeats_B.repeat_interleave(ctx.repeats_B)
        places_N = torch.arange(len(labels_N), device=labels_N.device)
        with _outputs(ctx.model) as logits_of:
            for part in chunks(len(weight_VH), len(states_NH)):
                raw_Nv = functional.linear(states_NH, weight_VH[part])
                with torch.enable_grad():
                    logits_Nv = logits_of(raw_Nv.requires_grad_())
                    dy_Nv = logits_Nv.detach().sub(normalisers_N[:, None]).exp_()
                    here_N = (labels_N >= part.start) & (labels_N < part.stop)
                    dy_Nv[places_N[here_N], labels_N[here_N] - part.start] -= 1
                    dy_Nv *= share_N[:, None]
                    (raw_Nv,) = torch.autograd.grad(logits_Nv, raw_Nv, dy_Nv)
                ctx.sums.add_rows(ctx.head, part.start, raw_Nv, states_NH)
                del raw_Nv, logits_Nv, dy_Nv
        return None, gradient_NH * gradient_N[:, None].to(gradient_NH.dtype), None, None


@contextmanager
def _outputs(model: Any) -> Iterator[Head]:
    """Yield what a model makes of its head's outputs, in float32 (float64 stays), elementwise."""
    with head_alone(model, after_head=True) as run:

        def logits_of(raw: Tensor) -> Tensor:
            logits = run(raw)
            return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits

        yield logits_of
