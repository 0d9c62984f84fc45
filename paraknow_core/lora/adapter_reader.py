"""Reading a LoRA adapter from a PEFT folder of any origin: everything in it is checked."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from paraknow_core.checkpoint.safetensors_header import read_header
from paraknow_core.errors import CheckpointError, ModelFolderError
from paraknow_core.lora.adapter import ADDED, CONFIG, PREFIX, WEIGHTS, Adapter, LoraFactors
from paraknow_core.strict_data import read_json_object

MAX_CONFIG_BYTES = 16 * 1024**2
_FLOATS = ("F32", "BF16", "F16")
_SUFFIXES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")

_READ_KEYS = frozenset(
    {"r", "lora_alpha", "lora_dropout", "target_modules", "ensure_weight_tying"}
    | {"base_model_name_or_path", "peft_type", "bias", "fan_in_fan_out"}
)
# These change nothing about what the tensors mean. Any other key must be off (null, false, empty).
_INERT_KEYS = frozenset(
    {"auto_mapping", "peft_version", "revision", "task_type", "inference_mode"}
    | {"init_lora_weights", "megatron_core", "qalora_group_size", "runtime_config"}
)


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT LoRA folder, refusing whatever is not a plain LoRA adapter.

    Args:
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.

    Returns:
        The adapter on the CPU, in float32.

    Raises:
        ModelFolderError: if a file is missing (pickled ``.bin`` weights are never read).
        CheckpointError: if the config switches on a feature other than plain LoRA, or the tensors
            are corrupt, incomplete, or not of the config's rank.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelFolderError(
                f"{folder}: has no {name}. A PEFT adapter folder needs {CONFIG} and {WEIGHTS}; "
                "pickled adapter weights (.bin) are refused, save them as safetensors."
            )
    config = _checked_config(folder / CONFIG)
    factors, embeddings = _read_factors(folder / WEIGHTS, config["r"])
    tied_head = _split_off_tied_head(factors, embeddings, folder) if config["tied"] else None
    return Adapter(
        factors=factors,
        embeddings=embeddings,
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config["lora_dropout"],
        tied_head=tied_head,
        base_model=config["base_model"],
        fan_in_fan_out=config["fan_in_fan_out"],
        added=_added(folder / WEIGHTS, factors),
    )


def _added(path: Path, modules: Collection[str]) -> frozenset[str]:
    """The modules whose product is added; none in a folder that does not say so."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get(ADDED, "[]")
    try:
        found = json.loads(told)
    except ValueError:
        found = None
    if not isinstance(found, list) or any(name not in list(modules) for name in found):
        raise CheckpointError(
            f"{path}: its head says that {_short(told)} is added to the student; it must be a list "
            "of modules that the file has factors for. Make the start point anew."
        )
    return frozenset(found)


def _checked_config(path: Path) -> dict[str, Any]:
    raw = read_json_object(path, refuse=ModelFolderError, max_bytes=MAX_CONFIG_BYTES)
    on = sorted(k for k, v in raw.items() if v and k not in _READ_KEYS | _INERT_KEYS)
    if raw.get("peft_type") != "LORA" or raw.get("bias") not in (None, "none") or on:
        raise CheckpointError(
            f"{path}: not a plain LoRA adapter: peft_type {_short(raw.get('peft_type'))}, bias "
            f"{_short(raw.get('bias'))}, switched on: {', '.join(map(_short, on[:8])) or 'nothing'}"
            ". Only peft_type LORA, bias none and no further feature can be read."
        )
    rank: Any = raw.get("r")
    alpha: Any = raw.get("lora_alpha")
    dropout: Any = raw.get("lora_dropout", 0.0)
    if type(rank) is not int or not 1 <= rank <= 65536:
        raise CheckpointError(f"{path}: r is {_short(rank)}; allowed are integers 1..65536.")
    if type(alpha) not in (int, float) or not 0 < alpha < 1e6:
        raise CheckpointError(
            f"{path}: lora_alpha is {_short(alpha)}; allowed is above 0, below 1e6."
        )
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise CheckpointError(
            f"{path}: lora_dropout is {_short(dropout)}; allowed is 0 up to below 1."
        )
    base = raw.get("base_model_name_or_path")
    return {
        "r": rank,
        "lora_alpha": float(alpha),
        "lora_dropout": float(dropout),
        "tied": raw.get("ensure_weight_tying") is True,
        "base_model": base if isinstance(base, str) and base else None,
        "fan_in_fan_out": raw.get("fan_in_fan_out") is True,
    }


def _short(value: object) -> str:
    return repr(value)[:60]


def _read_factors(path: Path, rank: int) -> tuple[dict[str, LoraFactors], frozenset[str]]:
    from safetensors.torch import load_file

    modules = {name: _module_of(name, path) for name in _checked_names(path)}
    tensors = load_file(path)
    factors: dict[str, LoraFactors] = {}
    embeddings = set()
    for module in sorted(set(modules.values())):
        names = [f"{PREFIX}{module}{suffix}" for suffix in _SUFFIXES]
        held = [tensors[name].to(torch.float32) if name in tensors else None for name in names]
        a, b, embedding_a, embedding_b = held
        if a is not None and b is not None and embedding_a is None and embedding_b is None:
            found = LoraFactors(a, b)
        elif embedding_a is not None and embedding_b is not None and a is None and b is None:
            found = LoraFactors(embedding_b.T.contiguous(), embedding_a.T.contiguous())
            embeddings.add(module)
        else:
            raise CheckpointError(f"{path}: {module} does not have exactly one pair of factors.")
        if found.a.shape[0] != rank or found.b.shape[1] != rank:
            raise CheckpointError(
                f"{path}: {module} has factors {tuple(found.b.shape)} × "
                f"{tuple(found.a.shape)}, but {CONFIG} says rank {rank}."
            )
        factors[module] = found
    return factors, frozenset(embeddings)


def _checked_names(path: Path) -> list[str]:
    headers = read_header(path)
    for name, header in headers.items():
        if header.dtype not in _FLOATS or len(header.shape) != 2:
            raise CheckpointError(
                f"{path}: tensor {name!r} is {header.dtype} {header.shape}; a LoRA factor is a "
                f"matrix of {', '.join(_FLOATS)}."
            )
    if not headers:
        raise CheckpointError(f"{path}: holds no tensors.")
    return list(headers)


def _module_of(name: str, path: Path) -> str:
    for suffix in _SUFFIXES:
        if name.startswith(PREFIX) and name.endswith(suffix):
            return name[len(PREFIX) : -len(suffix)]
    raise CheckpointError(
        f"{path}: tensor {name!r} is no LoRA factor; names are {PREFIX}<module> with one of "
        f"{', '.join(_SUFFIXES)}. Full weights (modules_to_save) cannot be read."
    )


def _split_off_tied_head(
    factors: dict[str, LoraFactors], embeddings: frozenset[str], folder: Path
) -> str:
    """Find the module that repeats the embedding's factors, and take it out of ``factors``."""
    for embedding in embeddings:
        for module, (a_RN, b_MR) in factors.items():
            same = torch.equal(a_RN, factors[embedding].a)
            if module not in embeddings and same and torch.equal(b_MR, factors[embedding].b):
                del factors[module]
                return module
    raise CheckpointError(
        f"{folder}: {CONFIG} says ensure_weight_tying, but no module repeats the embedding's "
        "factors. Train the adapter anew with tied weights, or switch ensure_weight_tying off."
    )
