"""The fields of a config.json that are read at all, each with its check and range.

A config can therefore neither name code or kernels to load, nor make a class allocate without
bound. Needs no torch.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "su", "llama3")

LAYER_TYPES = ("full_attention", "sliding_attention")

_Check = Callable[[object], bool]


def _integer(low: int, high: int, *, optional: bool = False) -> tuple[_Check, str]:
    def check(value: object) -> bool:
        return (optional and value is None) or (type(value) is int and low <= value <= high)

    return check, f"a whole number in {low}..{high}" + (" or null" if optional else "")


def _real(low: float, high: float, *, optional: bool = False) -> tuple[_Check, str]:
    def check(value: object) -> bool:
        if value is None:
            return optional
        return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]

    return check, f"a number in {low:g}..{high:g}" + (" or null" if optional else "")


def _choice(*allowed: object) -> tuple[_Check, str]:
    def check(value: object) -> bool:
        return any(value is a or (isinstance(a, str) and value == a) for a in allowed)

    return check, "one of " + ", ".join(json.dumps(a) for a in allowed)


def _token_ids() -> tuple[_Check, str]:
    one, text = _integer(-1, 2**22, optional=True)

    def check(value: object) -> bool:
        return all(map(one, value)) and len(value) <= 64 if isinstance(value, list) else one(value)

    return check, f"{text}, or a list of those"


def _factors(value: object) -> bool:
    one = _real(1e-6, 1e6)[0]
    return isinstance(value, list) and bool(value) and all(map(one, value))


_ROPE_NUMBERS: Mapping[str, _Check] = {
    "rope_theta": _real(1.0, 1e12)[0],
    "factor": _real(1e-6, 1e6, optional=True)[0],
    "partial_rotary_factor": _real(1e-3, 1.0, optional=True)[0],
    "original_max_position_embeddings": _integer(1, 2**27, optional=True)[0],
    **dict.fromkeys(
        ("attention_factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"),
        _real(-1e6, 1e6, optional=True)[0],
    ),
    **dict.fromkeys(("mscale", "mscale_all_dim"), _real(-1e6, 1e6, optional=True)[0]),
    "short_factor": _factors,
    "long_factor": _factors,
}
"""RoPE's parameters whose wrong value Transformers would notice only in a forward pass."""


def _rope() -> tuple[_Check, str]:
    """RoPE parameters: a flat object of finite numbers, short lists of them, and short words."""

    def scalar(value: object) -> bool:
        if isinstance(value, str):
            return len(value) <= 32
        return isinstance(value, int | float) and abs(value) <= 1e15  # no NaN, no infinity

    def flat(value: object) -> bool:
        if not isinstance(value, dict) or len(value) > 32:
            return False
        if not all(check(value[name]) for name, check in _ROPE_NUMBERS.items() if name in value):
            return False
        if value.get("rope_type", value.get("type", "default")) not in ROPE_TYPES:
            return False
        return all(
            all(map(scalar, v)) and len(v) <= 4096 if isinstance(v, list) else scalar(v)
            for v in value.values()
        )

    def check(value: object) -> bool:
        if isinstance(value, dict) and value and value.keys() <= set(LAYER_TYPES):
            return all(map(flat, value.values()))
        return value is None or flat(value)

    return check, (
        "null or a flat object of at most 32 finite numbers, words and short lists, with a "
        f"rope_type of {', '.join(ROPE_TYPES)}; or one such object for each of "
        f"{' and '.join(LAYER_TYPES)}"
    )


def _layer_types() -> tuple[_Check, str]:
    def check(value: object) -> bool:
        return value is None or (isinstance(value, list) and all(v in LAYER_TYPES for v in value))

    return check, f"null or a list of {' and '.join(LAYER_TYPES)}"


FIELDS: Mapping[str, tuple[_Check, str]] = MappingProxyType(
    {
        "hidden_size": _integer(1, 2**17),
        "num_hidden_layers": _integer(1, 1024),
        "num_attention_heads": _integer(1, 1024),
        "num_key_value_heads": _integer(1, 1024, optional=True),
        "head_dim": _integer(1, 4096, optional=True),
        "intermediate_size": _integer(1, 2**20),
        "vocab_size": _integer(1, 2**22),
        "max_position_embeddings": _integer(1, 2**27),
        "sliding_window": _integer(1, 2**27, optional=True),
        "use_sliding_window": _choice(True, False),
        "max_window_layers": _integer(0, 1024),
        "layer_types": _layer_types(),
        "hidden_act": _choice(
            "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"
        ),
        "rms_norm_eps": _real(1e-12, 1e-1),
        "initializer_range": _real(0.0, 1.0),
        "attention_dropout": _real(0.0, 1.0),
        "attention_bias": _choice(True, False),
        "mlp_bias": _choice(True, False),
        "tie_word_embeddings": _choice(True, False),
        "rope_theta": _real(1.0, 1e12),
        "rope_scaling": _rope(),
        "rope_parameters": _rope(),
        "bos_token_id": _token_ids(),
        "eos_token_id": _token_ids(),
        "pad_token_id": _token_ids(),
    }
)
"""The fields that every family has, each with its check and with what an error says is allowed."""

OPTIONS: Mapping[str, tuple[_Check, str]] = MappingProxyType(
    {
        "layer_norm_eps": _real(1e-12, 1e-1),
        "layer_norm_epsilon": _real(1e-12, 1e-1),
        "hidden_dropout": _real(0.0, 1.0),
        "resid_pdrop": _real(0.0, 1.0),
        "embd_pdrop": _real(0.0, 1.0),
        "attn_pdrop": _real(0.0, 1.0),
        "use_parallel_residual": _choice(True, False),
        "rotary_pct": _real(0.0, 1.0),
        "rotary_emb_base": _real(1.0, 1e12),
        "partial_rotary_factor": _real(0.0, 1.0),
        "original_max_position_embeddings": _integer(1, 2**27),
        "scale_attn_weights": _choice(True, False),
        "scale_attn_by_inverse_layer_idx": _choice(True, False),
        "reorder_and_upcast_attn": _choice(True, False),
        "query_pre_attn_scalar": _integer(1, 2**20),
        "final_logit_softcapping": _real(1e-3, 1e6, optional=True),
        "attn_logit_softcapping": _real(1e-3, 1e6, optional=True),
        "use_bidirectional_attention": _choice(False, None),
        "sliding_window_pattern": _integer(1, 1024),
        "rope_local_base_freq": _real(1.0, 1e12),
    }
)
"""The same for fields that only some families have: those that list them in ``options``."""
