"""Matrices in fused and transposed tensors: read, scored and put together by role."""

import json

import pytest
import torch
from support.tiny import FAMILIES, tiny_model, tiny_samples

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.errors import (
    CheckpointError,
    ShapeError,
)
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.models.matrices import assemble, read_matrix, take
from paraknow_core.sensitivity.accumulate import accumulate, score_table, write_maps

FUSED = ("phi3", "gpt_neox", "gpt2")


def split_as_the_class_does(family: str, model, x_TN: torch.Tensor) -> dict[Role, torch.Tensor]:
    """The outputs of layer 1's projections for an input, cut up as in the modelling code."""
    with torch.no_grad():
        if family == "phi3":
            layer = model.model.layers[1]
            q, k, v = layer.self_attn.qkv_proj(x_TN).split([32, 16, 16], dim=-1)
            gate, up = layer.mlp.gate_up_proj(x_TN).chunk(2, dim=-1)
            return dict(zip(MATRIX_ROLES[1:4], (q, k, v), strict=True)) | {
                Role.GATE: gate,
                Role.UP: up,
            }
        if family == "gpt2":
            fused = model.transformer.h[1].attn.c_attn
            parts = (fused(x_TN) - fused.bias).split(32, dim=-1)
        else:
            fused = model.gpt_neox.layers[1].attention.query_key_value
            by_head = (fused(x_TN) - fused.bias).view(len(x_TN), 4, 3 * 8)
            parts = [part.flatten(1) for part in by_head.chunk(3, dim=-1)]
        return dict(zip(MATRIX_ROLES[1:4], parts, strict=True))


@pytest.mark.parametrize("family", FUSED)
def test_a_role_in_a_fused_module_computes_what_the_class_computes(tmp_path, family):
    folder = tiny_model(tmp_path, family)
    architecture = describe(folder)
    x_TN = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    expected = split_as_the_class_does(family, load_model(folder), x_TN)
    with Checkpoint(folder) as weights:
        for role, output in expected.items():
            matrix = architecture.matrix(role, 1)
            weight = read_matrix(weights, matrix, slice(None), slice(None))
            assert tuple(weight.shape) == matrix.shape
            assert matrix.is_fused
            assert torch.allclose(x_TN @ weight.T, output, atol=1e-5)


@pytest.mark.parametrize("family", FUSED)
def test_any_part_of_a_fused_matrix_and_back(tmp_path, family):
    folder = tiny_model(tmp_path, family)
    architecture = describe(folder)
    rows, cols = torch.tensor([9, 0, 15, 9]), torch.tensor([31, 2])
    with Checkpoint(folder) as weights:
        for matrices in architecture.modules(architecture.roles).values():
            stored = weights.read(matrices[0].name)
            parts = []
            for matrix in matrices:
                whole = read_matrix(weights, matrix, slice(None), slice(None))
                parts.append((matrix, whole))
                assert torch.equal(take(stored, matrix), whole)
                for r in (rows, slice(3, 14), slice(5, 5), rows[:0]):
                    for c in (cols, slice(1, 30)):
                        part = read_matrix(weights, matrix, r, c)
                        assert torch.equal(part, whole[r][:, c])
                        assert part.is_contiguous()
                if matrix.is_fused:
                    with pytest.raises(CheckpointError, match=f"{matrix.role} matrix"):
                        read_matrix(weights, matrix, slice(0, matrix.shape[0] + 1), cols)
            logical_WN = stored.T if matrices[0].transposed else stored
            assert torch.equal(assemble(parts), logical_WN)
            without = assemble(parts[1:]) if len(parts) > 1 else None
            if without is not None:
                assert not take(without.T if matrices[0].transposed else without, matrices[0]).any()
                assert torch.equal(without.abs().sum(), sum_of(parts[1:]))


def sum_of(parts) -> torch.Tensor:
    return assemble(parts).abs().sum()


def test_parts_of_two_modules_do_not_go_together(tmp_path):
    architecture = describe(tiny_model(tmp_path, "phi3"))
    q, up = architecture.matrix(Role.Q, 0), architecture.matrix(Role.UP, 0)
    with pytest.raises(ShapeError, match=r"gate_up_proj.*as part of .*qkv_proj"):
        assemble([(q, torch.zeros(q.shape)), (up, torch.zeros(up.shape))])
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        assemble([(q, torch.zeros(2, 2))])


@pytest.mark.parametrize("family", FAMILIES)
def test_sensitivity_is_scored_by_role(tmp_path, family):
    """Maps keep the checkpoint's names; a fused map counts for each role with its rows."""
    folder = tiny_model(tmp_path / "model", family, layers=2)
    architecture = describe(folder)
    maps = accumulate(load_model(folder), tiny_samples(2))
    write_maps(maps, tmp_path / "maps", architecture)
    table = score_table(maps, architecture)
    with Checkpoint(tmp_path / "maps") as scores, Checkpoint(folder) as weights:
        assert scores.names == weights.names
        for role in set(architecture.roles) - {Role.EMBED, Role.HEAD}:
            for layer in range(2):
                part = read_matrix(
                    scores, architecture.matrix(role, layer), slice(None), slice(None)
                )
                assert table["roles"][role][layer] == pytest.approx(
                    float(part.double().sum()), rel=1e-12
                )
    in_layers = [m for n, m in maps.items() if ".layers.0." in n or ".h.0." in n]
    assert table["layers"][0] == pytest.approx(sum(float(m.double().sum()) for m in in_layers))
    assert set(table["roles"]) <= {*MATRIX_ROLES, "norm", "bias"}


@pytest.mark.parametrize("family", [*FUSED, "gemma2"])
def test_a_description_survives_as_json(tmp_path, family):
    architecture = describe(tiny_model(tmp_path, family, layers=1))
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again == architecture
    assert again.matrices == architecture.matrices
