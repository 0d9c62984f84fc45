"""What a model folder holds: its sizes and tensors, with config, index and headers in agreement.

Reads only config.json, the index and the headers of the safetensors files, so it is quick for any
size of model, and needs no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraknow_core.checkpoint.model_folder import Headers, read_headers, same_bytes, weight_files
from paraknow_core.checkpoint.safetensors_header import TensorHeader
from paraknow_core.errors import CheckpointError
from paraknow_core.models.architecture import Architecture, Matrix, TensorFacts
from paraknow_core.models.config import read_config
from paraknow_core.models.families import (
    MATRIX_ROLES,
    ExpectedTensor,
    Family,
    Role,
    expected_tensors,
)
from paraknow_core.models.family_tables import FAMILIES

__all__ = ["MATRIX_ROLES", "Architecture", "Matrix", "Role", "TensorFacts", "describe"]

WEIGHT_DTYPES = ("F32", "BF16", "F16")
"""Element types of weights that are supported; any other means quantised or unusual weights."""


def describe(folder: Path) -> Architecture:
    """Read a model folder's sizes and tensors; builds nothing and loads no weights.

    Args:
        folder: config.json with safetensors weights, in one file or sharded with an index.

    Returns:
        The architecture, every expected tensor found with its expected shape.

    Raises:
        ModelFolderError: if the folder is missing or has no safetensors weights.
        ArchitectureError: if the model is of an unsupported kind, or a config field out of range.
        CheckpointError: if a file is corrupt, or config, index and headers disagree; names the
            tensor, the shapes and the file.
    """
    folder = Path(folder)
    files = weight_files(folder)
    config = read_config(folder)
    family = FAMILIES[config["model_type"]]
    found = read_headers(folder, files)
    sizes = _sizes(config, family)
    tied = config.get("tie_word_embeddings", family.tied)
    wanted = _wanted(config, family, sizes, tied=tied)
    tensors = tuple(_facts(want, found, family, folder) for want in wanted)
    _refuse_extra({t.name for t in tensors}, found, config, folder, tied=tied)
    return _architecture(config, sizes, tensors, tied=tied)


def foreseen(config: Mapping[str, Any]) -> Architecture:
    """What ``describe`` will return for a model that has not been trained yet.

    Args:
        config: the fields of its config.json, with ``model_type``; its weights will be float32
            under the model's own names, in one file.
    """
    family = FAMILIES[config["model_type"]]
    sizes = _sizes(config, family)
    tied = config.get("tie_word_embeddings", family.tied)
    wanted = _wanted(config, family, sizes, tied=tied)
    found = {want.name: (TensorHeader("F32", want.shape, (0, 0)), "") for want in wanted}
    tensors = tuple(_facts(want, found, family, Path()) for want in wanted)
    return _architecture(config, sizes, tensors, tied=tied)


def _architecture(
    config: Mapping[str, Any],
    sizes: Mapping[str, int],
    tensors: tuple[TensorFacts, ...],
    *,
    tied: bool,
) -> Architecture:
    return Architecture(
        model_type=config["model_type"],
        hidden_size=sizes["hidden"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        num_kv_heads=sizes["kv"] // sizes["head_dim"],
        head_dim=sizes["head_dim"],
        intermediate_size=sizes["ffn"],
        vocab_size=sizes["vocab"],
        tied=tied,
        tensors=tensors,
    )


def _sizes(config: Mapping[str, Any], family: Family) -> dict[str, int]:
    """The numbers that shapes are made of, with the family's defaults for what is left out."""
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", family.kv_heads) or heads
    head_dim = config.get("head_dim", family.head_dim) or config["hidden_size"] // heads
    return {
        "vocab": config["vocab_size"],
        "hidden": config["hidden_size"],
        "ffn": config.get("intermediate_size")
        or config["hidden_size"] * (family.ffn_per_hidden or 0),
        "q": heads * head_dim,
        "kv": kv_heads * head_dim,
        "head_dim": head_dim,
        "positions": config.get("max_position_embeddings", 1024),  # only GPT-2 stores them
    }


def _wanted(
    config: Mapping[str, Any], family: Family, sizes: Mapping[str, int], *, tied: bool
) -> list[ExpectedTensor]:
    flags = dict.fromkeys(family.flags, True)
    wanted = expected_tensors(
        family,
        num_layers=config["num_hidden_layers"],
        sizes=sizes,
        flags=flags | {name: value for name, value in config.items() if isinstance(value, bool)},
    )
    return [want for want in wanted if not (tied and want.pattern.role is Role.HEAD)]


def _stored(family: Family, name: str, found: Headers) -> str:
    """The name under which the files hold a tensor of the model; the model's own if none does."""
    return next((stored for stored in family.stored_names(name) if stored in found), name)


def _facts(want: ExpectedTensor, found: Headers, family: Family, folder: Path) -> TensorFacts:
    """One expected tensor as it is on disk; an error if it is missing or different there."""
    name, shape = _stored(family, want.name, found), want.shape
    if name not in found:
        files = ", ".join(sorted({file for _, file in found.values()})[:3])
        raise CheckpointError(
            f"{folder}: tensor {name!r} of shape {shape} follows from config.json, but is missing "
            f"in the weights ({files}). Config and weights do not belong together, or a file is "
            "incomplete."
        )
    header, file = found[name]
    if header.shape != shape:
        raise CheckpointError(
            f"{folder / file}: tensor {name!r} has shape {header.shape}, but config.json makes it "
            f"{shape}. Config and weights do not belong together."
        )
    if header.dtype not in WEIGHT_DTYPES:
        raise CheckpointError(
            f"{folder / file}: tensor {name!r} is stored as {header.dtype}; read are "
            f"{', '.join(WEIGHT_DTYPES)}. Quantised weights are not supported: use the original."
        )
    return TensorFacts(
        name=name,
        role=want.pattern.role,
        layer=want.layer,
        shape=shape,
        dtype=header.dtype,
        file=file,
        parameter=want.name,
        transposed=want.pattern.transposed,
        parts=want.parts,
    )


def _refuse_extra(
    expected: set[str], found: Headers, config: Mapping[str, Any], folder: Path, *, tied: bool
) -> None:
    """Refuse tensors that the model would not use; some exporters also write a tied head."""
    family = FAMILIES[config["model_type"]]
    heads = family.stored_names(family.name_of(Role.HEAD)) if tied else ()
    embedding = _stored(family, family.name_of(Role.EMBED), found)
    for name, (header, file) in found.items():
        if name in expected or name.endswith(family.leftovers):
            continue
        if name in heads:
            if same_bytes(folder, found[name], found[embedding]):
                continue  # a copy of the embedding changes nothing
            raise CheckpointError(
                f"{folder / file}: config.json ties the head to the embedding, but {name!r} "
                f"{header.shape} and {embedding!r} {found[embedding][0].shape} differ. Set "
                "tie_word_embeddings to false if the head is meant to be its own."
            )
        raise CheckpointError(
            f"{folder / file}: tensor {name!r} of shape {header.shape} is no part of a "
            f"{config['model_type']} model of this config.json."
        )
