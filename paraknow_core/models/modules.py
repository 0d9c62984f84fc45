"""The kinds of layer in Transformers' models whose weight is a matrix."""

from typing import Any

from torch import Tensor, nn

from paraknow_core.models.family_tables import FAMILIES


def is_conv1d(module: Any) -> bool:
    """Whether a layer is GPT-2's Conv1D: ``y = x W + b`` with W as in_features × out_features."""
    from transformers.pytorch_utils import Conv1D

    return type(module) is Conv1D


def is_embedding(module: Any) -> bool:
    """Whether a layer looks rows up: plainly, or times a constant as Gemma's."""
    return type(module) is nn.Embedding or (
        isinstance(module, nn.Embedding)
        and isinstance(embed_scale(module), Tensor)
        and type(module).__name__.endswith("ScaledWordEmbedding")
    )


def embed_scale(module: Any) -> Tensor | None:
    """The constant that an embedding multiplies its rows by (Gemma: √hidden); None for no such."""
    return getattr(module, "embed_scale", None)


def logical(weight: Tensor, module: Any) -> Tensor:
    """A layer's weight as out_features × in_features, a view."""
    return weight.T if is_conv1d(module) else weight


def matrix_shape(module: Any) -> tuple[int, ...] | None:
    """A layer's matrix as (out_features, in_features), also if it is quantised; None for none."""
    weight = getattr(module, "weight", None)
    if weight is None:
        return None
    if not weight.is_floating_point():  # packed: bytes of its values
        return module.out_features, module.in_features
    return tuple(logical(weight, module).shape)


def learned_positions(model: Any) -> int | None:
    """How many tokens a sequence may have where positions are learned (GPT-2); None for any."""
    positions = getattr(model.base_model, "wpe", None)
    return None if positions is None else int(positions.num_embeddings)


def decoder_layers(model: Any) -> list[nn.Module]:
    """The decoder layers of a causal language model of Transformers, first to last."""
    rows = FAMILIES[model.config.model_type].tensors
    stem = next(r.name.partition(".{layer}.")[0] for r in rows if "{layer}" in r.name)
    return list(model.get_submodule(stem))
