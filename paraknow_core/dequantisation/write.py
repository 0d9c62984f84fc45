"""A quantised checkpoint as a plain model folder, written shard by shard."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from paraknow_core.checkpoint.model_folder import INDEX, SINGLE
from paraknow_core.dequantisation.quantised_model import (
    QuantisedModel,
    config_fields,
    plain_architecture,
    type_counts,
)
from paraknow_core.errors import CheckpointError
from paraknow_core.models.describe import TensorFacts
from paraknow_core.models.load import load_tokenizer, parse_dtype
from paraknow_core.progress import Progress, no_progress

SHARD_BYTES = 2**30
QUANTISATION = "quantisation.json"
"""In the folder: how each parameter was stored."""


def write_head(model: QuantisedModel, folder: Path) -> None:
    """Write config.json and the tokenizer, without weights, and check that the two fit.

    Raises:
        TokenizerError: if there is no tokenizer that can be used, or it has too many tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config_fields(model), indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    model.write_tokenizer(folder)
    load_tokenizer(folder)


def write_plain_model(
    model: QuantisedModel,
    folder: Path,
    *,
    dtype: str,
    shard_bytes: int = SHARD_BYTES,
    told_in: str = QUANTISATION,
    progress: Progress = no_progress,
) -> int:
    """Write a quantised model as config, plain weights and tokenizer.

    One parameter after another is read, so memory holds at most one shard, and one parameter
    beyond it while that is made.

    Args:
        model: what to read.
        folder: gets the files; safetensors in one file, or shards with their index.
        dtype: ``float32``, ``bfloat16`` or ``float16``. Numbers that a format's formula gives are
            rounded to it once.
        shard_bytes: of the weights in a file, if more than one parameter is in it.
        told_in: name of the file that says how each parameter was stored.
        progress: called after each parameter.

    Returns:
        The number of parameters.

    Raises:
        CheckpointError, TokenizerError: as ``QuantisedModel``.
        CheckpointError: if a weight is not finite in this dtype.
    """
    from safetensors.torch import save_file

    write_head(model, folder)
    architecture = plain_architecture(model, dtype)
    target = parse_dtype(dtype)
    shards = list(_shards(architecture.tensors, target.itemsize, shard_bytes))
    places, done = {}, 0
    for number, tensors in enumerate(shards, start=1):
        file = SINGLE if len(shards) == 1 else _shard_name(number, len(shards))
        weights = {}
        for tensor in tensors:
            weights[tensor.name] = _plain(model, tensor, target)
            places[tensor.name] = file
            done += 1
            progress(done, len(architecture.tensors), tensor.name)
        save_file(weights, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        _write_index(folder, places, architecture.num_parameters * target.itemsize)
    _write_types(model, folder / told_in, dtype)
    return architecture.num_parameters


def _plain(model: QuantisedModel, tensor: TensorFacts, dtype: torch.dtype) -> Tensor:
    found = model.read(tensor.parameter)
    if tuple(found.shape) != tensor.shape:
        raise CheckpointError(
            f"{model.folder}: {tensor.parameter} has shape {tuple(found.shape)}, but the model's "
            f"config makes it {tensor.shape}. Config and weights do not belong together."
        )
    plain = found.to(dtype).contiguous()
    if not bool(torch.isfinite(plain).all()):
        raise CheckpointError(
            f"{model.folder}: {tensor.parameter}, stored as {model.types[tensor.parameter]}, is "
            f"not finite in {dtype}. Take float32 or bfloat16; if it is not finite there either, "
            "the file is damaged."
        )
    return plain


def _shards(
    tensors: Sequence[TensorFacts], itemsize: int, most: int
) -> Iterator[list[TensorFacts]]:
    shard: list[TensorFacts] = []
    size = 0
    for tensor in tensors:
        if shard and size + tensor.num_elements * itemsize > most:
            yield shard
            shard, size = [], 0
        shard.append(tensor)
        size += tensor.num_elements * itemsize
    yield shard


def _shard_name(number: int, count: int) -> str:
    return f"model-{number:05d}-of-{count:05d}.safetensors"


def _write_index(folder: Path, places: dict[str, str], size: int) -> None:
    index = {"metadata": {"total_size": size}, "weight_map": places}
    text = json.dumps(index, indent=1, sort_keys=True)
    (folder / INDEX).write_text(text + "\n", encoding="utf-8")


def _write_types(model: QuantisedModel, path: Path, dtype: str) -> None:
    said = {
        "kind": model.kind,
        "dtype": dtype,
        "counts": type_counts(model),
        "notes": list(model.notes),
        "types": dict(model.types),
    }
    text = json.dumps(said, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")
