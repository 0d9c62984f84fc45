"""Kinds of model that are refused by name, before anything is computed. Needs no torch."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

_EXPERTS = (
    "mixtral",
    "deepseek_v2",
    "deepseek_v3",
    "gpt_oss",
    "dbrx",
    "olmoe",
    "phimoe",
    "qwen3_next",
    "jamba",
    "llama4",
    "llama4_text",
)
_ENCODER_DECODERS = (
    "t5",
    "mt5",
    "umt5",
    "bart",
    "mbart",
    "pegasus",
    "marian",
    "whisper",
    "t5gemma",
)
_WRAPPERS = (
    "gemma3",
    "gemma3n",
    "llava",
    "llava_next",
    "mllama",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "paligemma",
    "phi3_v",
    "idefics2",
    "idefics3",
    "smolvlm",
    "mistral3",
)

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_EXPERTS, "a mixture of experts"),
        **dict.fromkeys(_ENCODER_DECODERS, "an encoder-decoder"),
        **dict.fromkeys(_WRAPPERS, "a vision-language wrapper"),
        "bert": "an encoder",
        "roberta": "an encoder",
        "mamba": "a state-space model",
        "mamba2": "a state-space model",
    }
)
"""Model types whose kind is named in the error; every other unknown type is refused too."""


def refused_kind(raw: Mapping[str, Any]) -> str:
    """Say what kind of unsupported model a config.json describes; empty if it shows none."""
    model_type = str(raw.get("model_type"))
    experts = [k for k in raw if k.endswith(("num_experts", "num_local_experts", "routed_experts"))]
    signs = {
        "quantised": raw.get("quantization_config") or raw.get("compression_config"),
        "an encoder-decoder": raw.get("is_encoder_decoder"),
        "a mixture of experts": "moe" in model_type or any(raw[k] for k in experts),
        "a vision-language wrapper": raw.get("vision_config"),
        "a decoder with cross-attention": raw.get("add_cross_attention"),
        "of different sizes from layer to layer (per_layer_config)": raw.get("per_layer_config"),
    }
    return next((kind for kind, found in signs.items() if found), REFUSED.get(model_type, ""))
