"""How much memory a teacher's sensitivity takes, with all of it in memory and layer by layer."""

from dataclasses import dataclass

from paraknow_core.inspection.cost import activation_bytes, logits_bytes
from paraknow_core.models.describe import Architecture, Role

_FLOAT = 4  # bytes of a map's element, and of what a tied head sets aside
_KEPT_SHARE = 0.25
_KEPT_AT_LEAST = 2**29  # of activations: a small teacher has many for its size, and gains the most
_PIECE = 2**24  # of a file that is read, and of weights whose absolute values are taken
_SMALL = 2**23  # tiles of gradients, norms, masks


@dataclass(frozen=True)
class SensitivityMemory:
    """Bytes that a teacher's sensitivity takes, weights and maps included.

    Attributes:
        whole: with the whole model and all maps in memory, and one batch's activations.
        streamed: with one layer at a time and the weights of the next, and nothing of what passes
            between layers in memory.
        recompute_from: tokens from which on a sample's activations are computed again rather than
            kept, so that they take no more than a quarter of what weights and maps take, or 512 MiB
            if that is more. Batches have fewer tokens.
        boundaries: what passes between layers, of all samples: in memory or on disk.
    """

    whole: int
    streamed: int
    boundaries: int
    recompute_from: int


def sensitivity_memory(
    teacher: Architecture,
    *,
    element_bytes: int,
    longest: int,
    tokens: int,
    batch_tokens: int = 0,
    recompute: bool | None = None,
) -> SensitivityMemory:
    """Estimate the memory of a teacher's sensitivity.

    Args:
        teacher: its sizes.
        element_bytes: of a weight in the compute dtype; a map has float32.
        longest: tokens of the longest sample, half of which its loss is of.
        tokens: of all samples.
        batch_tokens: that go through the model together at most; 0: samples go one by one.
        recompute: whether the longest sample's activations are computed again; None: from
            ``recompute_from`` on.
    """
    tensors = (element_bytes + _FLOAT) * teacher.num_parameters
    kept = max(int(_KEPT_SHARE * tensors), _KEPT_AT_LEAST)
    recompute_from = kept // activation_bytes(teacher, 1) + 1
    is_long = longest >= recompute_from if recompute is None else recompute
    logits = logits_bytes(teacher, longest // 2)
    together = 0 if recompute else min(batch_tokens, recompute_from - 1, tokens)
    at_once = max(
        activation_bytes(teacher, longest, recomputed=is_long) + logits,
        activation_bytes(teacher, together) + logits_bytes(teacher, together // 2),
    )
    each = element_bytes + _FLOAT
    layer = max(_parameters(teacher, layer=n) for n in range(teacher.num_layers))
    outside = _parameters(teacher, layer=None)
    embedding = teacher.matrix(Role.EMBED).num_elements
    entry = sum(t.num_elements for t in teacher.tensors if t.role in (Role.EMBED, Role.POSITION))
    end = outside - entry + (embedding if teacher.tied else 0)
    piece = min(_PIECE, _FLOAT * max(tensor.num_elements for tensor in teacher.tensors))
    # A layer's weights are read while the one before is computed with; those outside are not.
    streamed = piece + max(
        (each + element_bytes) * layer
        + max(piece, activation_bytes(teacher, longest) // teacher.num_layers),
        each * entry + piece,
        each * end + max(piece, logits),
    )
    held = _FLOAT * (tokens * teacher.hidden_size + embedding) if teacher.tied else 0
    between = tokens * teacher.hidden_size * element_bytes * (teacher.num_layers + 2)
    return SensitivityMemory(
        whole=tensors + at_once,
        streamed=streamed + _SMALL,
        boundaries=between + held,
        recompute_from=recompute_from,
    )


def _parameters(model: Architecture, *, layer: int | None) -> int:
    return sum(tensor.num_elements for tensor in model.tensors if tensor.layer == layer)
