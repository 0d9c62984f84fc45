"""How much memory the hidden states of texts take, with all of a model in memory or one layer."""

from dataclasses import dataclass

from paraknow_core.inspection.cost import activation_bytes
from paraknow_core.models.describe import Architecture, Role

_FLOAT = 4  # bytes, which activations are counted in
_PIECE = 2**24  # of a file that is read
_SMALL = 2**23  # masks, norms


@dataclass(frozen=True)
class StatesMemory:
    """Bytes that the pooled states of a model's layers take, weights included.

    Attributes:
        whole: with the whole model in memory.
        streamed: with one layer at a time, and nothing of what passes between layers in memory.
        boundaries: what passes between layers, of all texts: in memory or on disk.
    """

    whole: int
    streamed: int
    boundaries: int


def states_memory(
    model: Architecture,
    *,
    element_bytes: int,
    texts: int,
    longest: int,
    tokens: int,
    batch: int,
) -> StatesMemory:
    """Estimate the memory of pooled states.

    Args:
        model: its sizes.
        element_bytes: of a weight and of a state.
        texts: how many.
        longest: tokens of the longest text.
        tokens: of all texts.
        batch: texts at once, where the whole model is in memory.
    """
    pooled = _FLOAT * texts * model.hidden_size * model.num_layers
    token = activation_bytes(model, 1) // model.num_layers * element_bytes // _FLOAT
    layer = max(_parameters(model, layer=n) for n in range(model.num_layers))
    entry = sum(t.num_elements for t in model.tensors if t.role in (Role.EMBED, Role.POSITION))
    return StatesMemory(
        whole=model.num_parameters * element_bytes + batch * longest * token + pooled,
        streamed=element_bytes * max(layer, entry) + _PIECE + _SMALL + longest * token + pooled,
        boundaries=2 * tokens * model.hidden_size * element_bytes,
    )


def _parameters(model: Architecture, *, layer: int) -> int:
    return sum(tensor.num_elements for tensor in model.tensors if tensor.layer == layer)
