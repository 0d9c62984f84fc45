"""Sensitivity maps as files, one per decoder layer, and their sums as a table.

Maps have the names and shapes of the checkpoint's tensors, so a window of a map is the same window
of the matrix.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.errors import NumericsError, ShapeError
from paraknow_core.models.describe import Architecture, Role, TensorFacts
from paraknow_core.models.matrices import take

_PIECE = 2**20
"""Elements that are turned into float64 at a time: 8 MiB."""


def write_maps(
    maps: Mapping[str, Tensor],
    folder: Path,
    architecture: Architecture,
    *,
    dtype: torch.dtype = torch.float32,
) -> list[Path]:
    """Write maps as safetensors, one file per decoder layer and one per role outside the layers.

    The files are ``layer-0007.safetensors`` for layer 7, ``embed.safetensors`` and so on. They
    hold no metadata, so the same maps give the same bytes.

    Args:
        maps: one float32 tensor for each tensor of ``architecture``, of the same shape, under the
            parameter's name in the Transformers model.
        folder: made if needed; files of these names are overwritten.
        architecture: of the model that was measured.
        dtype: of the elements in the files.

    Returns:
        The files, in the order of writing.

    Raises:
        ShapeError: if the maps are not those of this architecture.
    """
    _check_same(maps, architecture)
    return write_some_maps(maps, folder, architecture.tensors, dtype=dtype)


def write_some_maps(
    maps: Mapping[str, Tensor],
    folder: Path,
    tensors: Iterable[TensorFacts],
    *,
    dtype: torch.dtype = torch.float32,
) -> list[Path]:
    """Write the maps of some tensors, of whole layers or roles, as ``write_maps`` does.

    Args:
        maps: as for ``write_maps``, of these tensors at least.
        folder: made if needed.
        tensors: what is written, in the architecture's order.
        dtype: of the elements in the files.

    Returns:
        The files, in the order of writing.
    """
    from safetensors.torch import save_file

    groups: dict[str, dict[str, Tensor]] = {}
    for facts in tensors:
        group = facts.role.value if facts.layer is None else f"layer-{facts.layer:04d}"
        groups.setdefault(group, {})[facts.name] = maps[facts.parameter]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for group, found in groups.items():
        on_cpu = {name: each.to(dtype).cpu().contiguous() for name, each in found.items()}
        save_file(on_cpu, folder / f"{group}.safetensors")
    return [folder / f"{group}.safetensors" for group in groups]


def score_table(maps: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Any]:
    """Sum the maps per layer and per role, in float64.

    A layer's score is the sum over every parameter in it, norms and biases included (SeeKing §3).
    A fused projection counts for each of its roles with that role's rows.

    Args:
        maps: as ``write_maps``.
        architecture: of the model that was measured.

    Returns:
        ``{"layers": [score of layer 0, …], "roles": {role: [sum in layer 0, …]}, "outside":
        {"embed": …, "norm": …, "head": …}}``; ``roles`` has the roles that occur in layers,
        ``outside`` those outside (a tied head has none).

    Raises:
        ShapeError: if the maps are not those of this architecture.
    """
    _check_same(maps, architecture)
    sums = {
        facts.parameter: role_sums(maps[facts.parameter], facts) for facts in architecture.tensors
    }
    return score_table_of(sums, architecture)


def score_table_of(
    sums: Mapping[str, Sequence[tuple[str, float]]], architecture: Architecture
) -> dict[str, Any]:
    """``score_table`` of maps that are not in memory together.

    Args:
        sums: ``role_sums`` of every tensor's map, by parameter name.
        architecture: of the model that was measured.
    """
    roles: dict[str, list[float]] = {}
    outside: dict[str, float] = {}
    for facts in architecture.tensors:
        for role, total in sums[facts.parameter]:
            if facts.layer is None:
                outside[role] = outside.get(role, 0.0) + total
            else:
                row = roles.setdefault(role, [0.0] * architecture.num_layers)
                row[facts.layer] += total
    layers = [sum(row[i] for row in roles.values()) for i in range(architecture.num_layers)]
    ordered = {role.value: roles[role.value] for role in Role if role.value in roles}
    return {"layers": layers, "roles": ordered, "outside": outside}


def refuse_no_sensitivity(table: Mapping[str, Any]) -> None:
    """Refuse a model whose output depends on none of its layers: nothing can be chosen in it.

    Args:
        table: as ``score_table`` gives it.

    Raises:
        NumericsError: if the sensitivity of every layer is zero.
    """
    if not any(table["layers"]):
        raise NumericsError(
            f"The teacher's sensitivity is zero in all {len(table['layers'])} layers: its answers "
            "depend on none of their weights, so there is nothing to transfer. Take a teacher "
            "that was trained, and look whether its files are complete."
        )


def write_score_table(table: Mapping[str, Any], folder: Path) -> Path:
    """Write ``score_table``'s result as ``layer_sums.json``; returns its path."""
    path = Path(folder) / "layer_sums.json"
    path.write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def role_sums(scores: Tensor, facts: TensorFacts) -> list[tuple[str, float]]:
    """The float64 sum of a tensor's map under its role's name; a fused one's role by role."""
    if not facts.parts:
        return [(facts.role.value, _sum(scores))]
    return [(matrix.role.value, _sum(take(scores, matrix))) for matrix in facts.matrices]


def _sum(tensor: Tensor) -> float:
    """The float64 sum, without a float64 copy of the whole tensor."""
    pieces = [piece.double().sum() for piece in torch.split(tensor.flatten(), _PIECE)]
    return float(torch.stack(pieces).sum())


def _check_same(maps: Mapping[str, Tensor], architecture: Architecture) -> None:
    expected = {facts.parameter: facts.shape for facts in architecture.tensors}
    given = {name: tuple(tensor.shape) for name, tensor in maps.items()}
    for name in sorted(expected.keys() | given.keys()):
        if expected.get(name) != given.get(name):
            raise ShapeError(
                f"The map of {name!r} has shape {given.get(name)}, the model's tensor "
                f"{expected.get(name)}. The maps belong to another model."
            )
