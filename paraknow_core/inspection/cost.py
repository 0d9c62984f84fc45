"""How much work the steps of a transfer are, in operations and bytes moved. Needs no torch.

Estimates: matrix products and the passes over memory that dominate, nothing else. The constants
are from this project's benchmark of the core steps.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from paraknow_core.alignment.matrices import Match
from paraknow_core.inspection.decomposition import decomposition_work
from paraknow_core.inspection.work import Amounts, Work
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.models.logit_chunks import places_at_once

_MAP_BYTES = 24  # a sample adds |g·θ| to the map: gradient, weight and map read, one written, twice
_WINDOW_BYTES = 60  # of each element of a map: 6 ns an element at 10 GB/s
_FLOAT = 4  # bytes; even with bfloat16 weights, norms, adapters and losses are float32
_NF4 = 4.127 / 8  # bytes a value, its share of a block's twice quantised scale included
_LOGITS = 3  # their values, log-probabilities and gradient
_ADAPTER = 5  # copies: as read, as trained, its gradient, and two moments
_PROBES = 4  # rows whose logits are compared after training
_WITH_ANCHOR = 2  # adapters in the model where the start product is not subtracted once


def step_work(
    teacher: Architecture,
    student: Architecture,
    matches: Sequence[Match],
    *,
    amounts: Amounts,
    max_rank: int,
    adapter_parameters: int,
    element_bytes: int,
    device: str = "cpu",
) -> Mapping[str, Work]:
    """Estimate the work of each step that computes with tensors.

    Args:
        teacher: the larger model.
        student: the smaller one.
        matches: what is cut.
        amounts: of data.
        max_rank: of the decomposition.
        adapter_parameters: of the trained adapter.
        element_bytes: of a weight in the compute dtype.
        device: ``cpu`` or ``cuda``.

    Returns:
        Step name → work of one run of it.
    """
    return {
        "sensitivity": sensitivity_work(
            teacher, samples=amounts.samples, tokens=amounts.samples * amounts.tokens
        ),
        "extract": extraction_work([match.teacher.shape for match in matches]),
        "decompose": decomposition_work(
            [match.student.shape for match in matches], max_rank, device=device
        ),
        "finetune": training_work(
            student,
            rows=amounts.train * amounts.epochs,
            tokens=amounts.train * amounts.epochs * amounts.tokens,
            batch=amounts.batch,
            adapter_parameters=adapter_parameters * adapters_in_model(element_bytes),
        ),
        "evaluate": evaluation_work(
            student,
            rows=amounts.test,
            tokens=amounts.test * amounts.tokens,
            answer=amounts.answer,
            batch=amounts.batch,
            element_bytes=element_bytes,
        ),
    }


def sensitivity_work(teacher: Architecture, *, samples: int, tokens: int) -> Work:
    """Work of a backward pass a sample, and of adding what it says to the map.

    Args:
        teacher: its sizes.
        samples: number of seed samples.
        tokens: of all of them together.
    """
    flops = backward_flops(teacher, tokens) + 3 * attention_flops(teacher, tokens, samples)
    moved = float(_MAP_BYTES) * teacher.num_parameters * samples
    return Work(flops=flops, moved=moved, launches=2 * samples * teacher.num_layers)


def extraction_work(shapes: Iterable[Sequence[int]]) -> Work:
    """Work of looking for windows in maps of these shapes."""
    each = [_elements(shape) for shape in shapes]
    return Work(moved=float(_WINDOW_BYTES) * sum(each), launches=len(each))


def evaluation_work(
    model: Architecture, *, rows: int, tokens: int, answer: int, batch: int, element_bytes: int
) -> Work:
    """Work of the likelihood of every row, then of answers token by token.

    Each generated token reads all weights once a batch.

    Args:
        model: that is measured.
        rows: of the test split.
        tokens: of all of them together, prompts and answers.
        answer: tokens that are generated for a row.
        batch: rows at once.
        element_bytes: of a weight in the compute dtype.
    """
    used, batches = _used(model), -(-rows // max(batch, 1))
    return Work(
        flops=2.0 * used * (tokens + rows * answer) + attention_flops(model, tokens, rows),
        moved=float(element_bytes) * used * batches * answer,
        launches=batches * (1 + answer) * model.num_layers,
    )


def training_work(
    model: Architecture,
    *,
    rows: int,
    tokens: int,
    batch: int,
    adapter_parameters: int,
    without_gradient: int = 0,
) -> Work:
    """Work of training an adapter, and of the forward passes beside it.

    Args:
        model: that is adapted.
        rows: that go through it, those of all epochs together.
        tokens: of all of them.
        batch: rows at once.
        adapter_parameters: in the model, a frozen anchor's included.
        without_gradient: tokens of forward passes whose gradient nobody takes, validation's for
            instance, or that are made a second time.
    """
    passes = 2 * -(-rows // max(batch, 1))
    return Work(
        flops=training_flops(model, tokens, adapter_parameters)
        + 3 * attention_flops(model, tokens, rows)
        + forward_flops(model, without_gradient),
        launches=passes * model.num_layers,
    )


def attention_flops(model: Architecture, tokens: int, rows: int) -> float:
    """Operations of attention's own two products in a forward pass, each token with those before.

    Args:
        model: its sizes.
        tokens: of all rows together, which are taken to be of one length.
        rows: that they are dealt to.
    """
    width = model.num_heads * model.head_dim
    return 2.0 * width * model.num_layers * tokens**2 / max(rows, 1)


def forward_flops(model: Architecture, tokens: int) -> float:
    """Operations of a forward pass: 2 for each weight and token, attention's own left aside."""
    return 2.0 * _used(model) * tokens


def backward_flops(model: Architecture, tokens: int) -> float:
    """Operations of a forward and a backward pass with a gradient for every weight: 2 + 4."""
    return 3 * forward_flops(model, tokens)


def adapters_in_model(element_bytes: int, *, quantised: bool = False) -> int:
    """How many adapters are in the model in training: in float32 one, else an anchor beside it.

    Args:
        element_bytes: of a weight in the compute dtype.
        quantised: whether the matrices are held in 4 bits, from which nothing can be subtracted.
    """
    return 1 if element_bytes == _FLOAT and not quantised else _WITH_ANCHOR


def training_flops(model: Architecture, tokens: int, adapter_parameters: int) -> float:
    """Operations of training an adapter on ``tokens``, those of all epochs together.

    The model's own weights need no gradient, so 2 for the forward pass and 2 for the backward pass
    of each weight and token; an adapter's weights 6, as its gradient is computed too.

    Args:
        model: that is adapted.
        tokens: that go through it, prompt and answer.
        adapter_parameters: in the model, a frozen anchor's included.
    """
    return (2 * forward_flops(model, 1) + 6.0 * adapter_parameters) * tokens


def activation_bytes(
    model: Architecture, tokens: int, *, adapter: bool = False, recomputed: bool = False
) -> int:
    """Estimate what a forward pass keeps for its backward pass, logits aside.

    Of each layer: residual, normalised and scaled input of both blocks; queries, keys, values and
    the attention's output; gate, activation, up-projection and product of the feed-forward block.
    With an adapter also its dropped-out input of every module, and a byte for each mask.

    Args:
        model: its sizes.
        tokens: that go through at once.
        adapter: whether a LoRA adapter with dropout is trained.
        recomputed: gradient checkpointing; one layer is kept at a time, and each one's input.
    """
    hidden, ffn = model.hidden_size, model.intermediate_size
    q, kv = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    layer = _FLOAT * (6 * hidden + 2 * (q + kv) + 4 * ffn)
    if adapter:
        layer += (_FLOAT + 1) * (5 * hidden + q + ffn)
    kept = layer + _FLOAT * hidden * model.num_layers if recomputed else layer * model.num_layers
    return tokens * kept


def training_bytes(
    model: Architecture,
    *,
    element_bytes: int,
    adapter_bytes: int,
    tokens: int,
    predicted: int,
    longest: int = 0,
    recomputed: bool = False,
    quantised: bool = False,
) -> int:
    """Estimate the tensors in memory at the peak of training an adapter.

    The weights, what a forward pass keeps, the logits of the places where an answer's token is
    predicted (the head runs nowhere else; where activations are computed again, they are gone by
    then), and the adapter with its gradient and AdamW's moments. Or, if that is more, afterwards:
    the logits of some rows that prove what is delivered, and one row's of the model loaded back.

    Args:
        model: that is adapted.
        element_bytes: of a weight of it; below 4 the adapter has an anchor beside it.
        adapter_bytes: of the start point, in float32.
        tokens: that go through at once, padding included.
        predicted: of these, how many predict an answer's token.
        longest: tokens of the longest row.
        recomputed: gradient checkpointing.
        quantised: whether the matrices are held in 4 bits, embedding and head aside.
    """
    anchors = adapters_in_model(element_bytes, quantised=quantised) - 1
    ends = _elements(model.matrix(Role.EMBED).shape) * (1 if model.tied else 2)
    packed = model.num_parameters - ends if quantised else 0
    weights = (model.num_parameters - packed) * element_bytes + math.ceil(packed * _NF4)
    logits = logits_bytes(model, predicted)
    if recomputed:
        inputs = _FLOAT * tokens * model.hidden_size * model.num_layers
        layer = activation_bytes(model, tokens, adapter=True, recomputed=True) - inputs
        training = inputs + max(layer, logits)
    else:
        training = activation_bytes(model, tokens, adapter=True) + logits
    proof = sum(logits_bytes(model, n * longest) for n in (_PROBES, 1)) // _LOGITS
    return weights + max((_ADAPTER + anchors) * adapter_bytes + training, 2 * adapter_bytes + proof)


def logits_bytes(model: Architecture, tokens: int, *, whole: bool = False) -> int:
    """Estimate what the logits of as many tokens take with the loss that is computed from them.

    Args:
        model: its sizes.
        tokens: whose logits they are.
        whole: whether they are all in memory, however many; else many are so in chunks.
    """
    at_once = tokens if whole else min(tokens, places_at_once(model.vocab_size))
    return at_once * _LOGITS * _FLOAT * model.vocab_size


def _used(model: Architecture) -> int:
    """Parameters that every token is multiplied with; an embedding is looked up, not multiplied."""
    looked_up = 0 if model.tied else _elements(model.matrix(Role.EMBED).shape)
    return model.num_parameters - looked_up


def _elements(shape: Sequence[int]) -> int:
    rows, cols = shape
    return rows * cols
