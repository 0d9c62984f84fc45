"""How much memory the measurement of a model takes."""

from paraknow_core.inspection.cost import activation_bytes, logits_bytes
from paraknow_core.models.describe import Architecture

_FLOAT = 4  # bytes, which activations are counted in


def evaluation_bytes(
    model: Architecture, *, element_bytes: int, rows: int, tokens: int, answer: int
) -> int:
    """Estimate the tensors in memory at the peak of an evaluation.

    The weights, one layer's activations of a batch, and the logits in a chunk; or, while answers
    are generated, keys and values of all layers.

    Args:
        model: that is measured.
        element_bytes: of a weight in the compute dtype.
        rows: at once.
        tokens: of a row.
        answer: tokens generated for a row.
    """
    layer = activation_bytes(model, rows * tokens) // model.num_layers * element_bytes // _FLOAT
    kept = 2 * model.num_layers * model.num_kv_heads * model.head_dim * element_bytes
    return (
        model.num_parameters * element_bytes
        + layer
        + max(logits_bytes(model, rows * tokens), rows * (tokens + answer) * kept)
    )
