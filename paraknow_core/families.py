"""The supported model families, as data: which tensors a decoder has, their roles and shapes.

A row names one kind of tensor of the Transformers model: the pattern of its name, its role, and
its shape in the sizes that the config gives. Adding a family means adding rows, not code. Needs
no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Role(StrEnum):
    """What a tensor does in a decoder."""

    EMBED = "embed"
    Q = "q"
    K = "k"
    V = "v"
    O = "o"  # noqa: E741 - the field's name for the output projection
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    HEAD = "head"
    NORM = "norm"
    BIAS = "bias"


MATRIX_ROLES: tuple[Role, ...] = (
    Role.EMBED,
    Role.Q,
    Role.K,
    Role.V,
    Role.O,
    Role.GATE,
    Role.UP,
    Role.DOWN,
    Role.HEAD,
)
"""The roles of the nine kinds of matrix that carry knowledge, in the order of reports."""


@dataclass(frozen=True)
class TensorPattern:
    """One kind of tensor.

    Attributes:
        name: the tensor's name in the checkpoint; ``{layer}`` stands for the layer's number.
        role: what it does.
        dims: its shape, each one a name of a size (see ``expected_tensors``).
        when: the config's flag that must be true for the tensor to exist; empty for always.
    """

    name: str
    role: Role
    dims: tuple[str, ...]
    when: str = ""


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        tensors: every kind of tensor that its causal-LM class has.
        leftovers: endings of names that old exports hold and the class does not read.
        kv_heads: number of key/value heads where the config names none; None: as many as heads.
        head_dim: width of a head where the config names none; None: hidden size / heads.
    """

    tensors: tuple[TensorPattern, ...]
    leftovers: tuple[str, ...] = ("rotary_emb.inv_freq",)
    kv_heads: int | None = None
    head_dim: int | None = None


def _biases(names: Mapping[str, str], *, when: str = "") -> tuple[TensorPattern, ...]:
    return tuple(
        TensorPattern(f"model.layers.{{layer}}.{module}.bias", Role.BIAS, (dim,), when)
        for module, dim in names.items()
    )


_LAYER = "model.layers.{layer}."
_DECODER = (
    TensorPattern("model.embed_tokens.weight", Role.EMBED, ("vocab", "hidden")),
    TensorPattern(_LAYER + "self_attn.q_proj.weight", Role.Q, ("q", "hidden")),
    TensorPattern(_LAYER + "self_attn.k_proj.weight", Role.K, ("kv", "hidden")),
    TensorPattern(_LAYER + "self_attn.v_proj.weight", Role.V, ("kv", "hidden")),
    TensorPattern(_LAYER + "self_attn.o_proj.weight", Role.O, ("hidden", "q")),
    TensorPattern(_LAYER + "mlp.gate_proj.weight", Role.GATE, ("ffn", "hidden")),
    TensorPattern(_LAYER + "mlp.up_proj.weight", Role.UP, ("ffn", "hidden")),
    TensorPattern(_LAYER + "mlp.down_proj.weight", Role.DOWN, ("hidden", "ffn")),
    TensorPattern(_LAYER + "input_layernorm.weight", Role.NORM, ("hidden",)),
    TensorPattern(_LAYER + "post_attention_layernorm.weight", Role.NORM, ("hidden",)),
    TensorPattern("model.norm.weight", Role.NORM, ("hidden",)),
    TensorPattern("lm_head.weight", Role.HEAD, ("vocab", "hidden")),
)
_QKV_WIDTHS = {"self_attn.q_proj": "q", "self_attn.k_proj": "kv", "self_attn.v_proj": "kv"}
_ATTENTION_WIDTHS = {**_QKV_WIDTHS, "self_attn.o_proj": "hidden"}
_MLP_WIDTHS = {"mlp.gate_proj": "ffn", "mlp.up_proj": "ffn", "mlp.down_proj": "hidden"}
_HEAD_NORMS = (
    TensorPattern(_LAYER + "self_attn.q_norm.weight", Role.NORM, ("head_dim",)),
    TensorPattern(_LAYER + "self_attn.k_norm.weight", Role.NORM, ("head_dim",)),
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": Family(
            _DECODER
            + _biases(_ATTENTION_WIDTHS, when="attention_bias")
            + _biases(_MLP_WIDTHS, when="mlp_bias")
        ),
        "mistral": Family(_DECODER, kv_heads=8),
        "qwen2": Family(_DECODER + _biases(_QKV_WIDTHS), kv_heads=32),
        "qwen3": Family(
            _DECODER + _HEAD_NORMS + _biases(_ATTENTION_WIDTHS, when="attention_bias"),
            kv_heads=32,
            head_dim=128,
        ),
    }
)
"""Families by the config's ``model_type``; defaults are those of their Transformers classes."""

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "mixtral": "a mixture of experts",
        "deepseek_v2": "a mixture of experts",
        "deepseek_v3": "a mixture of experts",
        "gpt_oss": "a mixture of experts",
        "dbrx": "a mixture of experts",
        "t5": "an encoder-decoder",
        "mt5": "an encoder-decoder",
        "umt5": "an encoder-decoder",
        "bart": "an encoder-decoder",
        "mbart": "an encoder-decoder",
        "pegasus": "an encoder-decoder",
        "marian": "an encoder-decoder",
        "whisper": "an encoder-decoder",
        "bert": "an encoder",
        "roberta": "an encoder",
        "mamba": "a state-space model",
        "mamba2": "a state-space model",
    }
)
"""Model types whose kind is worth a word in the refusal; every other unknown one is refused too."""


def expected_tensors(
    family: Family, *, num_layers: int, sizes: Mapping[str, int], flags: Mapping[str, bool]
) -> Iterator[tuple[str, TensorPattern, int | None, tuple[int, ...]]]:
    """Yield every tensor a model of these sizes has.

    Args:
        family: the rows to fill in.
        num_layers: number of decoder layers.
        sizes: numbers for ``vocab``, ``hidden``, ``ffn``, ``q`` (heads × head width), ``kv``
            (key/value heads × head width) and ``head_dim``.
        flags: the config's truth for every name that ``when`` uses; a missing one is false.

    Yields:
        Name, pattern, layer (None outside the layers) and shape; layer by layer.
    """
    present = [p for p in family.tensors if not p.when or flags.get(p.when, False)]
    for pattern in present:
        if "{layer}" not in pattern.name:
            yield pattern.name, pattern, None, tuple(sizes[d] for d in pattern.dims)
    for layer in range(num_layers):
        for pattern in present:
            if "{layer}" in pattern.name:
                name = pattern.name.format(layer=layer)
                yield name, pattern, layer, tuple(sizes[d] for d in pattern.dims)
