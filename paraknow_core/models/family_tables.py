"""The supported model families, row by row.

Names, shapes and defaults are those of each family's Transformers class. Needs no torch.
"""

from collections.abc import Mapping
from types import MappingProxyType

from paraknow_core.models.families import Family, Role, TensorPattern
from paraknow_core.registry import Registry

_LAYER = "model.layers.{layer}."


def _rows(
    role: Role, dims: tuple[str, ...], *names: str, when: str = ""
) -> tuple[TensorPattern, ...]:
    return tuple(TensorPattern(name, role, dims, when) for name in names)


def _biases(names: Mapping[str, str], *, when: str = "") -> tuple[TensorPattern, ...]:
    return tuple(
        TensorPattern(f"{_LAYER}{module}.bias", Role.BIAS, (dim,), when)
        for module, dim in names.items()
    )


def _layer_norms(*names: str) -> tuple[TensorPattern, ...]:
    return _rows(Role.NORM, ("hidden",), *(f"{_LAYER}{name}.weight" for name in names))


_EMBED = _rows(Role.EMBED, ("vocab", "hidden"), "model.embed_tokens.weight")
_HEAD = _rows(Role.HEAD, ("vocab", "hidden"), "lm_head.weight")
_O = _rows(Role.O, ("hidden", "q"), _LAYER + "self_attn.o_proj.weight")
_DOWN = _rows(Role.DOWN, ("hidden", "ffn"), _LAYER + "mlp.down_proj.weight")
_ATTENTION = (
    *_rows(Role.Q, ("q", "hidden"), _LAYER + "self_attn.q_proj.weight"),
    *_rows(Role.K, ("kv", "hidden"), _LAYER + "self_attn.k_proj.weight"),
    *_rows(Role.V, ("kv", "hidden"), _LAYER + "self_attn.v_proj.weight"),
    *_O,
)
_MLP = (
    *_rows(Role.GATE, ("ffn", "hidden"), _LAYER + "mlp.gate_proj.weight"),
    *_rows(Role.UP, ("ffn", "hidden"), _LAYER + "mlp.up_proj.weight"),
    *_DOWN,
)
_NORM = _rows(Role.NORM, ("hidden",), "model.norm.weight")
_PRE_NORMS = _layer_norms("input_layernorm", "post_attention_layernorm")
_POST_NORMS = _layer_norms("post_attention_layernorm", "post_feedforward_layernorm")
_FOUR_NORMS = _layer_norms(
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_DECODER = _EMBED + _ATTENTION + _MLP + _PRE_NORMS + _NORM + _HEAD
_QKV_WIDTHS = {"self_attn.q_proj": "q", "self_attn.k_proj": "kv", "self_attn.v_proj": "kv"}
_ATTENTION_WIDTHS = {**_QKV_WIDTHS, "self_attn.o_proj": "hidden"}
_MLP_WIDTHS = {"mlp.gate_proj": "ffn", "mlp.up_proj": "ffn", "mlp.down_proj": "hidden"}
_ATTENTION_BIASES = _biases(_ATTENTION_WIDTHS, when="attention_bias")
_HEAD_NORMS = _rows(
    Role.NORM,
    ("head_dim",),
    _LAYER + "self_attn.q_norm.weight",
    _LAYER + "self_attn.k_norm.weight",
)
_WIDE_NORMS = (
    *_rows(Role.NORM, ("q",), _LAYER + "self_attn.q_norm.weight"),
    *_rows(Role.NORM, ("kv",), _LAYER + "self_attn.k_norm.weight"),
)
_QKV = (Role.Q, Role.K, Role.V)
_PHI3 = (
    *_EMBED,
    TensorPattern(
        _LAYER + "self_attn.qkv_proj.weight", Role.QKV, ("q+kv+kv", "hidden"), parts=_QKV
    ),
    *_O,
    TensorPattern(
        _LAYER + "mlp.gate_up_proj.weight",
        Role.GATE_UP,
        ("ffn+ffn", "hidden"),
        parts=(Role.GATE, Role.UP),
    ),
    *_DOWN,
    *_PRE_NORMS,
    *_NORM,
    *_HEAD,
)

_NEOX_LAYER = "gpt_neox.layers.{layer}."
_NEOX = (
    *_rows(Role.EMBED, ("vocab", "hidden"), "gpt_neox.embed_in.weight"),
    TensorPattern(
        _NEOX_LAYER + "attention.query_key_value.weight",
        Role.QKV,
        ("q+kv+kv", "hidden"),
        parts=_QKV,
        per_head=True,
    ),
    *_rows(Role.O, ("hidden", "q"), _NEOX_LAYER + "attention.dense.weight"),
    *_rows(Role.UP, ("ffn", "hidden"), _NEOX_LAYER + "mlp.dense_h_to_4h.weight"),
    *_rows(Role.DOWN, ("hidden", "ffn"), _NEOX_LAYER + "mlp.dense_4h_to_h.weight"),
    *_rows(
        Role.BIAS,
        ("q+kv+kv",),
        _NEOX_LAYER + "attention.query_key_value.bias",
        when="attention_bias",
    ),
    *_rows(Role.BIAS, ("hidden",), _NEOX_LAYER + "attention.dense.bias", when="attention_bias"),
    *_rows(Role.BIAS, ("ffn",), _NEOX_LAYER + "mlp.dense_h_to_4h.bias"),
    *_rows(Role.BIAS, ("hidden",), _NEOX_LAYER + "mlp.dense_4h_to_h.bias"),
    *_rows(
        Role.NORM,
        ("hidden",),
        _NEOX_LAYER + "input_layernorm.weight",
        _NEOX_LAYER + "input_layernorm.bias",
        _NEOX_LAYER + "post_attention_layernorm.weight",
        _NEOX_LAYER + "post_attention_layernorm.bias",
        "gpt_neox.final_layer_norm.weight",
        "gpt_neox.final_layer_norm.bias",
    ),
    *_HEAD,
)

_GPT2_LAYER = "transformer.h.{layer}."


def _conv1d(name: str, role: Role, dims: tuple[str, str], *parts: Role) -> TensorPattern:
    return TensorPattern(_GPT2_LAYER + name, role, dims, parts=parts, transposed=True)


_GPT2 = (
    *_rows(Role.EMBED, ("vocab", "hidden"), "transformer.wte.weight"),
    *_rows(Role.POSITION, ("positions", "hidden"), "transformer.wpe.weight"),
    _conv1d("attn.c_attn.weight", Role.QKV, ("hidden", "q+kv+kv"), *_QKV),
    _conv1d("attn.c_proj.weight", Role.O, ("q", "hidden")),
    _conv1d("mlp.c_fc.weight", Role.UP, ("hidden", "ffn")),
    _conv1d("mlp.c_proj.weight", Role.DOWN, ("ffn", "hidden")),
    *_rows(Role.BIAS, ("q+kv+kv",), _GPT2_LAYER + "attn.c_attn.bias"),
    *_rows(Role.BIAS, ("hidden",), _GPT2_LAYER + "attn.c_proj.bias"),
    *_rows(Role.BIAS, ("ffn",), _GPT2_LAYER + "mlp.c_fc.bias"),
    *_rows(Role.BIAS, ("hidden",), _GPT2_LAYER + "mlp.c_proj.bias"),
    *_rows(
        Role.NORM,
        ("hidden",),
        _GPT2_LAYER + "ln_1.weight",
        _GPT2_LAYER + "ln_1.bias",
        _GPT2_LAYER + "ln_2.weight",
        _GPT2_LAYER + "ln_2.bias",
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
    ),
    *_HEAD,
)

_GEMMA_OPTIONS = (
    "query_pre_attn_scalar",
    "final_logit_softcapping",
    "attn_logit_softcapping",
    "use_bidirectional_attention",
)
_GEMMA_NAMES = MappingProxyType({"hidden_act": "hidden_activation"})

FAMILIES: Registry[Family] = Registry(
    "model family",
    {
        "llama": Family(_DECODER + _ATTENTION_BIASES + _biases(_MLP_WIDTHS, when="mlp_bias")),
        "mistral": Family(_DECODER, kv_heads=8),
        "qwen2": Family(_DECODER + _biases(_QKV_WIDTHS), kv_heads=32),
        "qwen3": Family(_DECODER + _HEAD_NORMS + _ATTENTION_BIASES, kv_heads=32, head_dim=128),
        "gemma2": Family(
            _EMBED + _ATTENTION + _MLP + _FOUR_NORMS + _NORM + _HEAD + _ATTENTION_BIASES,
            options=_GEMMA_OPTIONS,
            config_names=_GEMMA_NAMES,
            kv_heads=4,
            head_dim=256,
            tied=True,
        ),
        "gemma3_text": Family(
            _EMBED
            + _ATTENTION
            + _HEAD_NORMS
            + _MLP
            + _FOUR_NORMS
            + _NORM
            + _HEAD
            + _ATTENTION_BIASES,
            options=(*_GEMMA_OPTIONS, "sliding_window_pattern", "rope_local_base_freq"),
            config_names=_GEMMA_NAMES,
            kv_heads=4,
            head_dim=256,
            tied=True,
        ),
        "phi3": Family(
            _PHI3,
            options=(
                "resid_pdrop",
                "embd_pdrop",
                "original_max_position_embeddings",
                "partial_rotary_factor",
            ),
            partly_turned=True,
        ),
        "olmo2": Family(
            _EMBED
            + _ATTENTION
            + _WIDE_NORMS
            + _MLP
            + _POST_NORMS
            + _NORM
            + _HEAD
            + _ATTENTION_BIASES,
        ),
        "gpt_neox": Family(
            _NEOX,
            leftovers=("rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias"),
            aliases=(("lm_head.", "embed_out."),),
            options=(
                "hidden_dropout",
                "layer_norm_eps",
                "use_parallel_residual",
                "rotary_pct",
                "rotary_emb_base",
            ),
            partly_turned=True,
            flags=("attention_bias",),
        ),
        "gpt2": Family(
            _GPT2,
            leftovers=(".attn.bias", ".attn.masked_bias"),
            aliases=(("transformer.", ""),),
            options=(
                "resid_pdrop",
                "embd_pdrop",
                "attn_pdrop",
                "layer_norm_epsilon",
                "scale_attn_weights",
                "scale_attn_by_inverse_layer_idx",
                "reorder_and_upcast_attn",
            ),
            config_names=MappingProxyType(
                {
                    "hidden_size": "n_embd",
                    "num_hidden_layers": "n_layer",
                    "num_attention_heads": "n_head",
                    "intermediate_size": "n_inner",
                    "max_position_embeddings": "n_positions",
                    "hidden_act": "activation_function",
                }
            ),
            ffn_per_hidden=4,
            tied=True,
        ),
    },
)
"""Families by the config's ``model_type``; defaults are those of their Transformers classes."""
