"""Packed safetensors as plain models: the same numbers as a loop over single numbers gives."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.packed_weights import (
    AWQ,
    CASES,
    GPTQ,
    PACKED,
    four_bit,
    groups,
    packed_model,
    write_config,
)

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.dequantisation.find import holds_quantised, open_quantised
from paraknow_core.dequantisation.quantised_model import type_counts
from paraknow_core.dequantisation.write import write_plain_model
from paraknow_core.errors import ArchitectureError, CheckpointError
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model


@pytest.mark.parametrize("kind", sorted(CASES))
def test_numbers_are_those_of_a_loop(tmp_path: Path, kind: str) -> None:
    expected = packed_model(tmp_path / "packed", *CASES[kind])
    assert holds_quantised(tmp_path / "packed")
    model = open_quantised(tmp_path / "packed")
    assert type_counts(model) == {kind: 7, "float16": 8}
    write_plain_model(model, tmp_path / "out", dtype="float32")
    with Checkpoint(tmp_path / "out") as made:
        for tensor in describe(tmp_path / "out").tensors:
            found = made.read(tensor.name).double()
            torch.testing.assert_close(found, expected[tensor.name], rtol=3e-7, atol=1e-8)


def test_a_plain_model_of_it_computes(tmp_path: Path) -> None:
    packed_model(tmp_path / "packed", *CASES["AWQ 4 bit"])
    write_plain_model(open_quantised(tmp_path / "packed"), tmp_path / "out", dtype="bfloat16")
    logits = load_model(tmp_path / "out")(torch.arange(12).view(2, 6)).logits
    assert bool(torch.isfinite(logits).all())


@pytest.fixture(scope="module")
def nf4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nf4")
    packed_model(folder, *CASES["bitsandbytes nf4"])
    return folder


UP = "model.layers.0.mlp.up_proj."
BROKEN: dict[str, tuple[dict[str, torch.Tensor | None], str]] = {
    "maxima": ({"weight.absmax": None}, r"up_proj is packed, but its weight\.absmax is missing"),
    "state": (
        {"weight.quant_state.bitsandbytes__nf4": None},
        r"up_proj is packed, but its weight\.quant_state\.bitsandbytes__nf4 \(or fp4\) is missing",
    ),
    "what the state says": (
        {"weight.quant_state.bitsandbytes__nf4": torch.zeros(3, dtype=torch.uint8)},
        "bitsandbytes__nf4 cannot be read",
    ),
    "the numbers": ({"weight": torch.zeros(5, 1, dtype=torch.uint8)}, "do not fit together"),
    "everything": (
        dict.fromkeys(four_bit(random.Random(1), 2, 32, kind="nf4", nested=True)[0]),
        "weights hold neither it nor what bitsandbytes packs it as",
    ),
    "order": ({"other": torch.zeros(3)}, "up_proj.other' belongs to no parameter"),
}


@pytest.mark.parametrize("what", sorted(BROKEN))
def test_damage_is_told_by_name(nf4: Path, tmp_path: Path, what: str) -> None:
    changes, match = BROKEN[what]
    weights = load_file(nf4 / "model.safetensors")
    for end, tensor in changes.items():
        weights.pop(UP + end, None)
        weights |= {} if tensor is None else {UP + end: tensor}
    for file in nf4.iterdir():
        if file.name != "model.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=match):
        write_plain_model(open_quantised(tmp_path), tmp_path / "out", dtype="float32")


UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "another method": ({"quant_method": "hqq"}, "quantised by 'hqq'.* Made plain are gptq, awq"),
    "three bits": (GPTQ | {"bits": 3}, "bits of the quantisation is 3 .known: 2, 4, 8."),
    "a kernel's layout": (GPTQ | {"checkpoint_format": "marlin"}, "is 'marlin'"),
    "gemv": (AWQ | {"version": "GEMV"}, "version of the quantisation is 'gemv'"),
    "zero points": (
        PACKED | {"config_groups": groups(num_bits=4, symmetric=False)},
        "with zero points",
    ),
}


@pytest.mark.parametrize("what", sorted(UNKNOWN))
def test_what_cannot_be_made_plain_is_refused(nf4: Path, tmp_path: Path, what: str) -> None:
    said, match = UNKNOWN[what]
    for file in nf4.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_config(tmp_path, quantization_config=said)
    with pytest.raises(ArchitectureError, match=match):
        open_quantised(tmp_path)


def test_the_refusal_of_a_quantised_student_says_what_a_teacher_may_be(nf4: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"is quantised .*of a teacher set dequantise"):
        describe(nf4)
