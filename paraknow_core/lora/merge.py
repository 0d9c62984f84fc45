"""Student and adapter as one ordinary checkpoint, for programs that cannot load adapters."""

import re
import shutil
from pathlib import Path
from typing import Any

import torch

from paraknow_core.checkpoint.reader import TORCH_DTYPES
from paraknow_core.checkpoint.safetensors_header import BYTES_PER_ELEMENT
from paraknow_core.errors import ConfigError
from paraknow_core.lora.adapter import Adapter
from paraknow_core.lora.anchored_model import merge_into
from paraknow_core.models.describe import Architecture, Role, describe
from paraknow_core.models.load import load_model, no_bar

COPIED_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
)
"""The tokenizer's files and the generation defaults, copied as they are. None holds code."""


def write_merged(
    student_folder: Path, adapter: Adapter, folder: Path, *, max_shard_size: str = "5GB"
) -> tuple[str, ...]:
    """Write the student with an adapter added to its weights, in the Transformers layout.

    Every tensor keeps the dtype that it has in the student; the sum itself is computed in float32
    and rounded once. A tied weight is changed and stored once; if the adapter changes the head
    apart from the embedding, both are stored, and the checkpoint is no longer tied.

    Args:
        student_folder: the unmodified student.
        adapter: for this student.
        folder: an existing, empty folder; gets config, weights, index, tokenizer, and the
            student's generation defaults.
        max_shard_size: largest file of weights, such as ``5GB`` or ``500MB``.

    Returns:
        The dtypes of the weights, as safetensors names them: ``("BF16",)``.

    Raises:
        ModelFolderError, ArchitectureError, CheckpointError: if the student cannot be read.
        ShapeError: if the adapter does not fit the student.
        ConfigError: if ``max_shard_size`` is no size.
    """
    student = describe(student_folder)
    stored = {tensor.parameter: TORCH_DTYPES[tensor.dtype] for tensor in student.tensors}
    if student.tied:
        shared = f"{student.module_of(Role.EMBED)}.weight"
        stored[f"{student.module_of(Role.HEAD)}.weight"] = stored[shared]
    model: Any = load_model(student_folder, dtype=_widest(set(stored.values())))
    merge_into(model, adapter)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(stored[name])
    model.config.use_cache = True  # load_model switches it off; a user generates with it
    try:
        with no_bar():
            model.save_pretrained(folder, max_shard_size=max_shard_size)
    except ValueError as error:  # can only be about the size: the folder is new and empty
        raise ConfigError(f"max shard size {max_shard_size!r}: {error}") from error
    for name in COPIED_FILES:
        if (student_folder / name).is_file():
            shutil.copyfile(student_folder / name, folder / name)
    return dtypes_of(student)


def merged_bytes(student: Architecture, adapter: Adapter) -> int:
    """Bytes of the weights that ``write_merged`` writes: more than the student's if it unties it.

    Args:
        student: the unmodified student.
        adapter: for this student.
    """
    shared = student.tied and adapter.tied_head is None
    own = {student.module_of(role) for role in (Role.EMBED, Role.HEAD)} if shared else set()
    if own.isdisjoint(adapter.factors):
        return student.weight_bytes
    (table,) = (tensor for tensor in student.tensors if tensor.role is Role.EMBED)
    return student.weight_bytes + table.num_elements * BYTES_PER_ELEMENT[table.dtype]


def check_shard_size(size: str) -> None:
    """Refuse a text that is not a size, before a model is loaded.

    Args:
        size: largest file of weights, such as ``5GB`` or ``500MB``.

    Raises:
        ConfigError: says what is allowed.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        split_torch_state_dict_into_shards({}, max_shard_size=size)
        above_zero = re.match(r"\s*[0.]*[1-9]", size) is not None
    except (ValueError, OverflowError):
        above_zero = False
    if not above_zero:
        raise ConfigError(
            f"max shard size {size[:80]!r}: allowed is a number above 0 with a unit, such as 5GB "
            "or 500MB."
        )


def dtypes_of(model: Architecture) -> tuple[str, ...]:
    """Return the dtypes of a model's weights as stored, each once, sorted."""
    return tuple(sorted({tensor.dtype for tensor in model.tensors}))


def _widest(dtypes: set[torch.dtype]) -> torch.dtype:
    """The dtype that holds all of them without a loss: float32 if they are mixed."""
    return dtypes.pop() if len(dtypes) == 1 else torch.float32
