"""A model's config.json, through an allow-list with ranges, before anything is built from it.

Only the fields of ``config_fields`` are ever read or passed on; any other has no effect.
So a config can neither name code or kernels to load, nor make a class allocate without bound
(``num_hidden_layers = 10**7`` keeps Transformers busy for half a minute). Needs no torch.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraknow_core.errors import ArchitectureError, ModelFolderError
from paraknow_core.models.config_fields import FIELDS, OPTIONS
from paraknow_core.models.families import Family
from paraknow_core.models.family_tables import FAMILIES
from paraknow_core.models.unsupported import refused_kind
from paraknow_core.strict_data import read_json_object

MAX_CONFIG_BYTES = 1024**2

_HINT = (
    "Give a model folder in the Transformers layout: config.json, safetensors weights, tokenizer "
    "files."
)

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
        ``model_type`` and the allow-listed fields that the file gives, each inside its range and
        under its common name (``hidden_size`` for GPT-2's ``n_embd``); everything else of the
        file is left out.

    Raises:
        ModelFolderError: if the folder or its config.json is missing or no JSON object.
        ArchitectureError: if the model is of a kind that is not supported, or a field is out of
            range; states the field, its value and what is allowed.
    """
    return checked_config(read_raw_config(folder), folder)


def read_raw_config(folder: Path) -> dict[str, Any]:
    """Read a model's config.json as it is; nothing of it has been checked.

    Raises:
        ModelFolderError: if the folder or its config.json is missing or no JSON object.
    """
    path = Path(folder) / "config.json"
    return read_json_object(path, refuse=ModelFolderError, max_bytes=MAX_CONFIG_BYTES, hint=_HINT)


def checked_config(raw: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Allow-list and check the fields of a config.json, as ``read_config`` does.

    Args:
        raw: the fields, under the family's own names.
        folder: where they come from, for messages.

    Raises:
        ArchitectureError: as ``read_config``.
    """
    model_type = _supported_type(raw, Path(folder) / "config.json")
    family = FAMILIES[model_type]
    checks = {**FIELDS, **{name: OPTIONS[name] for name in family.options}}
    config = {}
    for name, (check, allowed) in checks.items():
        own = family.own_name(name)
        if own not in raw or (raw[own] is None and _has_default(family, name)):
            continue
        if not check(raw[own]):
            raise ArchitectureError(
                f"{folder}/config.json: {own} is {json.dumps(raw[own])[:100]}; allowed is "
                f"{allowed}."
            )
        config[name] = raw[own]
    _check_whole(config, family, folder)
    return {"model_type": model_type, **config}


def own_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the fields of ``read_config`` the names that the family's config class uses."""
    family = FAMILIES[config["model_type"]]
    return {family.own_name(name): value for name, value in config.items()}


def _has_default(family: Family, name: str) -> bool:
    return name == "intermediate_size" and family.ffn_per_hidden is not None


def _supported_type(raw: Mapping[str, Any], path: Path) -> str:
    """The model type, or a refusal that says what kind of model this is."""
    model_type, kind = raw.get("model_type"), refused_kind(raw)
    if kind or not isinstance(model_type, str) or model_type not in FAMILIES:
        said = f"model_type {str(model_type)[:60]!r}"
        what = f"{kind} ({said})" if kind else f"of {said}"
        raise ArchitectureError(
            f"{path}: the model is {what}, which is not supported. Supported are dense decoders of "
            f"the families {', '.join(FAMILIES)} with unquantised weights{_hint(kind)}."
        )
    return model_type


def _hint(kind: str) -> str:
    """Say what can be done with a quantised model, or a mixture."""
    ways = {
        "quantised": "; of a teacher set dequantise to make such of it",
        "a mixture of experts": "; of a Mixtral, Qwen2-MoE or Qwen3-MoE teacher set experts",
    }
    return ways.get(kind, "")


def _check_whole(config: Mapping[str, Any], family: Family, folder: Path) -> None:
    """Refuse what no single field shows: a size left out, or two that contradict each other."""
    missing = [
        family.own_name(name)
        for name in _NEEDED
        if name not in config and not _has_default(family, name)
    ]
    if missing:
        raise ArchitectureError(f"{folder}/config.json: {', '.join(missing)} must be given.")
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads")
    if kv_heads and heads % kv_heads:
        raise ArchitectureError(
            f"{folder}/config.json: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}."
        )
    if not (config.get("head_dim") or family.head_dim) and config["hidden_size"] < heads:
        raise ArchitectureError(
            f"{folder}/config.json: {family.own_name('hidden_size')} {config['hidden_size']} is "
            f"too small for {heads} heads."
        )
    kinds, layers = config.get("layer_types"), config["num_hidden_layers"]
    if kinds is not None and len(kinds) != layers:
        raise ArchitectureError(
            f"{folder}/config.json: layer_types has {len(kinds)} entries for "
            f"num_hidden_layers {layers}."
        )
