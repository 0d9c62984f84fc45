"""Matrices in which nothing was ever written."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.tiny import tiny_model
from torch import Tensor

from paraknow_core.errors import CheckpointError, NumericsError
from paraknow_core.models.blank_weights import refuse_blank_weights
from paraknow_core.models.describe import Architecture, describe
from paraknow_core.models.matrices import take
from paraknow_core.sensitivity.maps import refuse_no_sensitivity

FAMILIES = ("llama", "phi3", "gpt_neox", "gpt2")
"""Plain matrices, roles one after the other, head by head, and transposed."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Tensor]]]:
    """Family → a folder, and the tensors that belong into it."""
    folders = {family: tiny_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}
    return {f: (folder, load_file(folder / "model.safetensors")) for f, folder in folders.items()}


def write(folder: Path, tensors: dict[str, Tensor]) -> Architecture:
    save_file(tensors, folder / "model.safetensors")
    return describe(folder)


@settings(max_examples=40)
@given(
    family=st.sampled_from(FAMILIES),
    which=st.integers(min_value=0),
    number=st.sampled_from([0.0, -0.0, 1.0, -0.25, 3e-5]),
    signs=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_a_matrix_of_one_number_is_refused_by_name(
    models: dict[str, tuple[Path, dict[str, Tensor]]],
    family: str,
    which: int,
    number: float,
    signs: bool,
    dtype: torch.dtype,
) -> None:
    folder, tensors = models[family]
    tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    architecture = write(folder, tensors)
    matrix = architecture.matrices[which % len(architecture.matrices)]
    tensors[matrix.name] = tensors[matrix.name].clone()
    whole = tensors[matrix.name].T if matrix.transposed else tensors[matrix.name]
    blocks = matrix.blocks
    for block in range(blocks.count):
        start = block * blocks.stride + blocks.offset
        whole[start : start + blocks.size] *= 0 if signs and not number else 1  # leaves −0.0 too
        if not signs or number:
            whole[start : start + blocks.size] = number
    write(folder, tensors)
    assert len(take(tensors[matrix.name], matrix).unique()) == 1
    with pytest.raises(CheckpointError, match=re.escape(matrix.name)):
        refuse_blank_weights(folder)


@pytest.mark.parametrize("family", FAMILIES)
def test_constant_vectors_and_padded_rows_are_fine(
    models: dict[str, tuple[Path, dict[str, Tensor]]], family: str
) -> None:
    folder, tensors = models[family]
    architecture = write(folder, tensors)
    names = {matrix.name for matrix in architecture.matrices}
    changed = {}
    for name, tensor in tensors.items():
        changed[name] = tensor.clone()
        if name in names:
            changed[name][:3] = 0
            changed[name][-3:] = 0
        else:
            changed[name].zero_()
    write(folder, changed)
    refuse_blank_weights(folder)


@settings(max_examples=20)
@given(share=st.floats(0, 1), family=st.sampled_from(FAMILIES))
def test_a_file_whose_tail_was_never_written_is_refused(
    models: dict[str, tuple[Path, dict[str, Tensor]]], share: float, family: str
) -> None:
    folder, tensors = models[family]
    write(folder, tensors)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    kept = head + int(share * (len(data) - head) * 0.9)
    path.write_bytes(data[:kept].ljust(len(data), b"\0"))
    with pytest.raises(CheckpointError, match=r"the last [\d,]+ of its [\d,]+ bytes are zeros"):
        refuse_blank_weights(folder)


def test_a_teacher_without_any_sensitivity_is_refused() -> None:
    refuse_no_sensitivity({"layers": [0.0, 1e-30]})
    with pytest.raises(NumericsError, match="zero in all 3 layers"):
        refuse_no_sensitivity({"layers": [0.0, 0.0, 0.0]})
