"""A model that was never trained: random weights, with the sizes and tokenizer of another model."""

import shutil
from pathlib import Path
from typing import Any

import torch

from paraknow_core.checkpoint.reader import TORCH_DTYPES
from paraknow_core.models.describe import describe
from paraknow_core.models.load import new_model
from paraknow_core.seeding import derived_seed, random_state_kept

_WEIGHTS = (".safetensors", ".safetensors.index.json")
_COPIED = (".json", ".txt", ".model", ".jinja")


def write_random_model(folder: Path, out_folder: Path, *, seed: int) -> int:
    """Write a model of the same config, initialised as Transformers initialises a new one.

    Args:
        folder: the model whose config and tokenizer are taken; its weights are not read.
        out_folder: gets config, weights in the same dtype, and copies of the tokenizer's files.
        seed: of the draw; the caller's random state is left as it was.

    Returns:
        The number of parameters.

    Raises:
        ModelFolderError, ArchitectureError, CheckpointError: as ``describe``.
    """
    from safetensors.torch import save_file

    architecture = describe(folder)
    dtype = TORCH_DTYPES[architecture.tensors[0].dtype]
    with random_state_kept():
        # With the seed itself, these could be the weights that the teacher's training started from.
        torch.manual_seed(derived_seed(seed, "random model"))
        model: Any = new_model(folder, dtype=dtype)
    out_folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        if file.name.endswith(_COPIED) and not file.name.endswith(_WEIGHTS):
            shutil.copyfile(file, out_folder / file.name)
    # Parameters, not the state dict: there a tied head would be stored a second time.
    tensors = {name: p.detach().contiguous() for name, p in model.named_parameters()}
    save_file(tensors, out_folder / "model.safetensors", metadata={"format": "pt"})
    return architecture.num_parameters
