"""The config of a model from the metadata of its GGUF file.

Names of fields come from Transformers' own table; what that leaves out, and changes what a model
computes, is added here, and what cannot be expressed is refused.
"""

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paraknow_core.errors import ArchitectureError
from paraknow_core.models.config import checked_config

MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "llama": "llama",
        "qwen2": "qwen2",
        "qwen3": "qwen3",
        "gemma2": "gemma2",
        "gemma3": "gemma3_text",
        "phi3": "phi3",
        "gpt2": "gpt2",
    }
)
"""GGUF's name of an architecture → the family here; Transformers can map these names of tensors."""

_ADDED: Mapping[str, str] = MappingProxyType(
    {
        "attention.key_length": "head_dim",
        "attention.sliding_window": "sliding_window",
        "attn_logit_softcapping": "attn_logit_softcapping",
        "final_logit_softcapping": "final_logit_softcapping",
    }
)
"""Keys that Transformers' table has not for every architecture, and the field of each."""

_BIASED: Mapping[str, str] = MappingProxyType(
    {"blk.0.attn_q.bias": "attention_bias", "blk.0.ffn_up.bias": "mlp_bias"}
)
_FLAGGED = ("llama", "qwen3", "gemma2", "gemma3_text")
"""Families whose config says whether there are biases."""

_ATTENTION_BY_WIDTH = {"gemma2": 46, "gemma3_text": 62}
"""Family → number of layers of its 27B model, whose attention is scaled by hidden size / heads;
others by the head's width. No GGUF key says so: llama.cpp goes by the number of layers too."""

_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
_LLAMA3_POSITIONS = 8192
"""Of every Llama 3.1 to 3.3; GGUF holds only the factors that follow from it (rope_freqs)."""


def config_of(
    metadata: Mapping[str, Any],
    tensors: Collection[str],
    *,
    rows: int,
    factors: list[float] | None,
    path: Path,
) -> dict[str, Any]:
    """The checked fields of a config.json, under their common names.

    Args:
        metadata: key → value; of an array its length is enough.
        tensors: GGUF's names of the tensors.
        rows: of the embedding.
        factors: what ``rope_freqs.weight`` holds, if there is one.
        path: of the file, for messages.

    Raises:
        ArchitectureError: if the model is of a kind that is not supported, or turns its heads in a
            way that no config can say.
    """
    from transformers.integrations import ggml as untyped

    tables: Any = untyped.GGUF_CONFIG_MAPPING

    arch = str(metadata.get("general.architecture"))
    if metadata.get(f"{arch}.expert_count"):
        raise ArchitectureError(
            f"{path}: the model is a mixture of experts (architecture {arch!r}), which is not "
            "supported as GGUF. Take the original's safetensors."
        )
    if arch not in MODEL_TYPES:
        raise ArchitectureError(
            f"{path}: of architecture {arch[:60]!r}. Read from GGUF are {', '.join(MODEL_TYPES)}; "
            "of others take the original's safetensors."
        )

    def said(key: str) -> Any:
        return metadata.get(f"{arch}.{key}")

    table: Mapping[str, Any] = tables[arch]
    fields = {name: said(key) for key, name in table.items() if name}
    fields |= {name: said(key) for key, name in _ADDED.items() if said(key) is not None}
    special: Mapping[str, str] = tables["tokenizer"]
    fields |= {name: metadata.get(f"tokenizer.{key}") for key, name in special.items()}
    sliding = arch == "llama" and said("attention.sliding_window")
    fields |= {
        "model_type": "mistral" if sliding else MODEL_TYPES[arch],
        "vocab_size": rows,
        "tie_word_embeddings": "output.weight" not in tensors,
    }
    fields |= _of_family(fields, said, tensors)
    scaling = _scaling(said, factors, fields, path)
    if scaling:
        fields["rope_scaling"] = scaling
    known = {name: _plain(value) for name, value in fields.items() if value is not None}
    return checked_config(known, path)


def _plain(value: Any) -> Any:
    """The number that was meant: GGUF holds 1e-5 as float32, which is 9.999999747e-06."""
    if isinstance(value, float) and value:
        return float(f"{value:.7g}")
    return value


def _of_family(
    fields: Mapping[str, Any], said: Callable[[str], Any], tensors: Collection[str]
) -> dict[str, Any]:
    """What one family needs and no key of the table says."""
    family = fields["model_type"]
    found: dict[str, Any] = {}
    if family in _FLAGGED:
        found |= {flag: True for name, flag in _BIASED.items() if name in tensors}
    if not fields.get("num_key_value_heads") and family != "gpt2":
        found["num_key_value_heads"] = fields.get("num_attention_heads")
    if family in _ATTENTION_BY_WIDTH:
        by_width = said("block_count") == _ATTENTION_BY_WIDTH[family]
        wide = said("embedding_length") // said("attention.head_count")
        found["query_pre_attn_scalar"] = wide if by_width else fields.get("head_dim", 256)
    if family == "gemma3_text" and said("rope.freq_base_swa"):
        found["rope_local_base_freq"] = said("rope.freq_base_swa")
    if family == "gpt2":
        found |= {"n_inner": said("feed_forward_length"), "n_positions": said("context_length")}
    turned, width = said("rope.dimension_count"), _head_width(fields, said)
    if family == "phi3" and turned and turned < width:
        found["partial_rotary_factor"] = turned / width
    return found


def _head_width(fields: Mapping[str, Any], said: Callable[[str], Any]) -> int:
    heads = said("attention.head_count") or 1
    return int(fields.get("head_dim") or (said("embedding_length") or 0) // heads)


def _scaling(
    said: Callable[[str], Any],
    factors: list[float] | None,
    fields: Mapping[str, Any],
    path: Path,
) -> dict[str, Any] | None:
    """Transformers' ``rope_scaling``, or None where positions are not scaled."""
    if factors is not None:
        return _llama3(factors, fields, _head_width(fields, said), path)
    kind, factor = said("rope.scaling.type") or "none", said("rope.scaling.factor")
    original = said("rope.scaling.original_context_length")
    if kind == "none":
        return None
    if kind == "linear" and factor:
        return {"rope_type": "linear", "factor": _plain(factor)}
    if kind == "yarn" and factor and original:
        return {
            "rope_type": "yarn",
            "factor": _plain(factor),
            "original_max_position_embeddings": original,
        }
    raise ArchitectureError(
        f"{path}: positions are scaled by {str(kind)[:40]!r} (factor {factor}, original context "
        f"{original}), which cannot be read from GGUF. Take the original's safetensors."
    )


def _llama3(
    factors: list[float], fields: Mapping[str, Any], width: int, path: Path
) -> dict[str, Any]:
    """The rule of Llama 3.1 that a file's factors follow from; they must be just these."""
    scaling = {"rope_type": "llama3", "factor": _plain(max(factors)), **_LLAMA3}
    expected = _llama3_factors(scaling["factor"], fields.get("rope_theta") or 10000.0, width)
    if len(factors) != len(expected) or not all(
        math.isclose(one, other, rel_tol=1e-4) for one, other in zip(factors, expected, strict=True)
    ):
        raise ArchitectureError(
            f"{path}: rope_freqs.weight holds other factors than the rule of Llama 3.1 gives "
            f"(factor {scaling['factor']}, {_LLAMA3_POSITIONS} positions). Take the original's "
            "safetensors."
        )
    return scaling | {"original_max_position_embeddings": _LLAMA3_POSITIONS}


def _llama3_factors(factor: float, theta: float, width: int) -> list[float]:
    """By what each pair's frequency is divided, as llama.cpp's converter computes it."""
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    found = []
    for pair in range(width // 2):
        turns = _LLAMA3_POSITIONS / (2 * math.pi * theta ** (2 * pair / width))
        smooth = min(1.0, max(0.0, (turns - low) / (high - low)))
        found.append(1 / ((1 - smooth) / factor + smooth))
    return found
