"""A model's config.json, through an allow-list with ranges, before anything is built from it.

Only the fields listed here are ever read or passed on; a field outside the list has no effect.
So a config can neither name code or kernels to load, nor make a class allocate without bound
(``num_hidden_layers = 10**7`` keeps Transformers busy for half a minute). Needs no torch.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paraknow_core.errors import ArchitectureError, ModelFolderError
from paraknow_core.families import FAMILIES, REFUSED

MAX_CONFIG_BYTES = 1024**2

ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")

Check = Callable[[object], bool]


def _integer(low: int, high: int, *, optional: bool = False) -> tuple[Check, str]:
    def check(value: object) -> bool:
        return (optional and value is None) or (type(value) is int and low <= value <= high)

    return check, f"a whole number in {low}..{high}" + (" or null" if optional else "")


def _real(low: float, high: float) -> tuple[Check, str]:
    def check(value: object) -> bool:
        return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]

    return check, f"a number in {low:g}..{high:g}"


def _choice(*allowed: object) -> tuple[Check, str]:
    def check(value: object) -> bool:
        return any(value is a or (isinstance(a, str) and value == a) for a in allowed)

    return check, "one of " + ", ".join(json.dumps(a) for a in allowed)


def _token_ids() -> tuple[Check, str]:
    one, text = _integer(-1, 2**22, optional=True)

    def check(value: object) -> bool:
        return all(map(one, value)) and len(value) <= 64 if isinstance(value, list) else one(value)

    return check, f"{text}, or a list of those"


def _rope() -> tuple[Check, str]:
    """RoPE parameters: a flat object of finite numbers, short lists of them, and short words."""

    def scalar(value: object) -> bool:
        if isinstance(value, str):
            return len(value) <= 32
        return isinstance(value, bool) or (
            isinstance(value, int | float) and math.isfinite(value) and abs(value) <= 1e15
        )

    def check(value: object) -> bool:
        if value is None:
            return True
        if not isinstance(value, dict) or len(value) > 32:
            return False
        if value.get("rope_type", value.get("type", "default")) not in ROPE_TYPES:
            return False
        return all(
            all(map(scalar, v)) and len(v) <= 4096 if isinstance(v, list) else scalar(v)
            for v in value.values()
        )

    return check, (
        "null or a flat object of at most 32 finite numbers, words and short lists, with a "
        f"rope_type of {', '.join(ROPE_TYPES)}"
    )


def _layer_types() -> tuple[Check, str]:
    kinds = ("full_attention", "sliding_attention")

    def check(value: object) -> bool:
        return value is None or (isinstance(value, list) and all(v in kinds for v in value))

    return check, f"null or a list of {' and '.join(kinds)}"


FIELDS: Mapping[str, tuple[Check, str]] = MappingProxyType(
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
        "hidden_act": _choice("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu"),
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
"""Each field that is read, with its check and the words for what is allowed."""

_NEEDED = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
)


def read_config(folder: Path) -> dict[str, Any]:
    """Read, allow-list and check a model's config.json.

    Args:
        folder: a model folder in the Transformers layout.

    Returns:
        ``model_type`` and the allow-listed fields that the file gives, each inside its range;
        everything else of the file is left out.

    Raises:
        ModelFolderError: if the folder or its config.json is missing or no JSON object.
        ArchitectureError: if the model is of a kind that is not supported, or a field is out of
            range; states the field, its value and what is allowed.
    """
    raw = read_json_object(Path(folder) / "config.json")
    model_type = _supported_type(raw, Path(folder) / "config.json")
    config = {name: raw[name] for name in FIELDS if name in raw}
    for name, value in config.items():
        check, allowed = FIELDS[name]
        if not check(value):
            raise ArchitectureError(
                f"{folder}/config.json: {name} is {json.dumps(value)[:100]}; allowed is {allowed}."
            )
    _check_whole(config, folder)
    return {"model_type": model_type, **config}


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a small JSON object, strictly: no key twice, no NaN or Infinity.

    Raises:
        ModelFolderError: if the file is missing, larger than 16 MiB (1 MiB for a config.json), or
            not such an object.
    """
    limit = MAX_CONFIG_BYTES if path.name == "config.json" else 16 * MAX_CONFIG_BYTES

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice[:80]!r} appears twice")
        return dict(pairs)

    def no_constant(word: str) -> object:
        raise ValueError(f"{word} is not a JSON number")

    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ModelFolderError(
            f"{path}: cannot be read ({error.strerror}). Give a model folder in the Transformers "
            "layout: config.json, safetensors weights, tokenizer files."
        ) from error
    if len(data) > limit:
        raise ModelFolderError(f"{path}: larger than {limit} bytes, which no honest file of it is.")
    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path}: not a valid JSON file ({error}).") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{path}: holds a {type(value).__name__}, not a JSON object.")
    return value


def _supported_type(raw: Mapping[str, Any], path: Path) -> str:
    """The model type, or a refusal that says what kind of model this is."""
    model_type = raw.get("model_type")
    kind = _refused_kind(raw, model_type)
    if kind or model_type not in FAMILIES:
        what = (
            f"{kind} (model_type {str(model_type)[:60]!r})"
            if kind
            else (f"of model_type {str(model_type)[:60]!r}")
        )
        raise ArchitectureError(
            f"{path}: the model is {what}, which is not supported. Supported are dense decoders of "
            f"the families {', '.join(FAMILIES)} with unquantised weights."
        )
    return str(model_type)


def _refused_kind(raw: Mapping[str, Any], model_type: object) -> str:
    experts = [k for k in raw if k.endswith(("num_experts", "num_local_experts", "routed_experts"))]
    if raw.get("quantization_config") or raw.get("compression_config"):
        return "quantised"
    if raw.get("is_encoder_decoder"):
        return "an encoder-decoder"
    if "moe" in str(model_type) or any(raw[k] for k in experts):
        return "a mixture of experts"
    if raw.get("per_layer_config"):
        return "of different sizes from layer to layer (per_layer_config)"
    return REFUSED.get(str(model_type), "")


def _check_whole(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse what no single field shows: a size left out, or two that contradict each other."""
    missing = [name for name in _NEEDED if name not in config]
    if missing:
        raise ArchitectureError(f"{folder}/config.json: {', '.join(missing)} must be given.")
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if kv_heads and heads % kv_heads:
        raise ArchitectureError(
            f"{folder}/config.json: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}."
        )
    kinds, layers = config.get("layer_types"), config["num_hidden_layers"]
    if kinds is not None and len(kinds) != layers:
        raise ArchitectureError(
            f"{folder}/config.json: layer_types has {len(kinds)} entries for "
            f"num_hidden_layers {layers}."
        )
