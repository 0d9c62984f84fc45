"""The likelihood of answers, without holding the logits of a batch.

lm-evaluation-harness computes the logits of all places, prompts and padding included, and their
log-probabilities in float32 beside them. Here the head runs where an answer's token is predicted
alone, and on a few places at a time (``chunked_logits``).

Shapes: B = rows of a batch, L = tokens of the longest, N = answer tokens of a batch, n = those of a
chunk, H = width, V = vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from paraknow_core.models.chunked_logits import final_states, head_alone, vocabulary_of
from paraknow_core.models.logit_chunks import are_many, chunks

ContextAnswer = tuple[list[int], list[int]]
"""Token numbers of a context, and of the answer that comes after it; both at least one."""


def have_many_logits(model: Any, pairs: Sequence[ContextAnswer], *, batch_size: int) -> bool:
    """Whether the harness would have more logits in memory than a chunk has."""
    longest = max(len(context) + len(answer) for context, answer in pairs)
    return are_many(min(batch_size, len(pairs)) * longest, vocabulary_of(model))


@torch.no_grad()
def answer_likelihoods(
    model: Any, pairs: Sequence[ContextAnswer], *, batch_size: int, tell: Callable[[int], None]
) -> list[tuple[float, bool]]:
    """Measure how likely answers are.

    Batches are those of the harness, so values are, but for rounding: longest rows first, padded on
    the right.

    Args:
        model: a causal language model, wrapped by PEFT or not, in evaluation mode.
        pairs: no longer than the model takes.
        batch_size: rows at once.
        tell: called after each batch with its rows.

    Returns:
        For each pair, in order: the log-likelihood of the answer's tokens (nats, summed in float32)
        and whether each is the likeliest one.
    """
    order = sorted(range(len(pairs)), key=lambda row: _harness_order(*pairs[row]))
    found: dict[int, tuple[float, bool]] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found |= zip(batch, _of_batch(model, [pairs[row] for row in batch]), strict=True)
        tell(len(batch))
    return [found[row] for row in range(len(pairs))]


def _harness_order(context: list[int], answer: list[int]) -> tuple[int, list[int]]:
    return -len(context) - len(answer), context + answer


def _of_batch(model: Any, pairs: Sequence[ContextAnswer]) -> list[tuple[float, bool]]:
    device = next(model.parameters()).device
    rows = [(context + answer)[:-1] for context, answer in pairs]
    longest = max(map(len, rows))
    ids_BL = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    states_BLH = final_states(model, input_ids=ids_BL)
    states_NH = torch.cat(
        [
            states_LH[len(context) - 1 : len(context) - 1 + len(answer)]
            for states_LH, (context, answer) in zip(states_BLH, pairs, strict=True)
        ]
    )
    del states_BLH
    labels_N = torch.tensor([token for _, answer in pairs for token in answer], device=device)
    likelihoods, are_greedy = [], []
    with head_alone(model) as head:
        for part in chunks(len(states_NH), vocabulary_of(model)):
            log_p_nV = head(states_NH[part]).log_softmax(-1, dtype=torch.float32)
            likelihoods.append(log_p_nV.gather(1, labels_N[part, None])[:, 0])
            are_greedy.append(log_p_nV.argmax(1) == labels_N[part])
    sizes = [len(answer) for _, answer in pairs]
    values, greedy = (torch.split(torch.cat(each), sizes) for each in (likelihoods, are_greedy))
    return [(float(v.sum()), bool(g.all())) for v, g in zip(values, greedy, strict=True)]
