"""What a model folder holds: its sizes and tensors, with config, index and headers in agreement.

Reads only config.json, the index and the heads of the safetensors files, so it is quick for any
size of model, and needs no torch.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from paraknow_core.errors import ArchitectureError, CheckpointError
from paraknow_core.families import (
    FAMILIES,
    MATRIX_ROLES,
    Family,
    Role,
    TensorPattern,
    expected_tensors,
)
from paraknow_core.headers import BYTES_PER_ELEMENT
from paraknow_core.layout import Headers, read_headers, same_bytes, weight_files
from paraknow_core.model_config import read_config

__all__ = ["MATRIX_ROLES", "Architecture", "Role", "TensorFacts", "describe"]

WEIGHT_DTYPES = ("F32", "BF16", "F16")
"""Element types of weights that are read; any other means quantised or unusual ones."""


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of a model.

    Attributes:
        name: as in the checkpoint and in ``named_parameters()`` of the Transformers model.
        role: what it does.
        layer: number of its decoder layer; None outside the layers.
        shape: (out_features, in_features) for a matrix, (vocabulary, hidden) for the embedding.
        dtype: element type on disk, in the words of safetensors: F32, BF16 or F16.
        file: name of the file in the model folder that holds it.
    """

    name: str
    role: Role
    layer: int | None
    shape: tuple[int, ...]
    dtype: str
    file: str

    @property
    def num_elements(self) -> int:
        """Number of parameters in it."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Architecture:
    """A decoder's sizes and tensors, as its files have them.

    ``tied`` says that the head is the embedding: then no tensor has the role HEAD.
    """

    model_type: str
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    tied: bool
    tensors: tuple[TensorFacts, ...]

    @cached_property
    def _places(self) -> dict[tuple[Role, int | None], TensorFacts]:
        return {(t.role, t.layer): t for t in self.tensors if t.role in MATRIX_ROLES}

    @property
    def has_head(self) -> bool:
        """Whether the head is a matrix of its own."""
        return not self.tied

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of matrices that exist as weights of their own, in report order."""
        return tuple(r for r in MATRIX_ROLES if r is not Role.HEAD or self.has_head)

    @property
    def num_parameters(self) -> int:
        """Number of parameters, a tied head counted once."""
        return sum(t.num_elements for t in self.tensors)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as stored on disk."""
        return sum(t.num_elements * BYTES_PER_ELEMENT[t.dtype] for t in self.tensors)

    def matrix(self, role: Role, layer: int | None = None) -> TensorFacts:
        """The matrix of a role.

        Args:
            role: one of ``roles``.
            layer: 0..num_layers−1, or None for the embedding and the head.

        Raises:
            ArchitectureError: if there is no such matrix; says so when the head is tied.
        """
        found = self._places.get((Role(role), layer))
        if found is not None:
            return found
        if role == Role.HEAD and self.tied:
            raise ArchitectureError(
                "The head of this model is tied to its embedding and is no matrix of its own; "
                "use the role 'embed'."
            )
        raise ArchitectureError(
            f"No matrix of role {str(role)!r} at layer {layer}; roles are "
            f"{', '.join(self.roles)}, layers 0..{self.num_layers - 1} (none for embed and head)."
        )

    def module_of(self, role: Role, layer: int | None = None) -> str:
        """The dotted name of the module that a role's matrix belongs to, as PEFT sees it.

        Such as ``"model.layers.3.self_attn.q_proj"``; a tied head has its module too.

        Raises:
            ArchitectureError: if there is no such module.
        """
        if role == Role.HEAD and self.tied and layer is None:
            name = _name_of(FAMILIES[self.model_type], Role.HEAD)
        else:
            name = self.matrix(role, layer).name
        return name.removesuffix(".weight")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives an equal object back."""
        fields = asdict(self)
        fields["tensors"] = [
            {**asdict(t), "role": t.role.value, "shape": list(t.shape)} for t in self.tensors
        ]
        return fields

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``'s values.

        Raises:
            ArchitectureError: if a field is missing, unknown or no valid role.
        """
        try:
            tensors = tuple(
                TensorFacts(**{**t, "role": Role(t["role"]), "shape": tuple(t["shape"])})
                for t in fields["tensors"]
            )
            return cls(**{**fields, "tensors": tensors})
        except (KeyError, TypeError, ValueError) as error:
            raise ArchitectureError(f"Not a description of an architecture: {error}.") from error


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
    found = read_headers(folder, files)
    sizes = _sizes(config)
    tied = config.get("tie_word_embeddings", False)
    wanted = _wanted(config, sizes, tied=tied)
    tensors = tuple(_facts(want, found, folder) for want in wanted)
    _refuse_extra({t.name for t in tensors}, found, config, folder, tied=tied)
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


def _sizes(config: Mapping[str, Any]) -> dict[str, int]:
    """The numbers that shapes are made of, with the family's defaults for what is left out."""
    family = FAMILIES[config["model_type"]]
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads", family.kv_heads) or heads
    head_dim = config.get("head_dim", family.head_dim) or config["hidden_size"] // heads
    return {
        "vocab": config["vocab_size"],
        "hidden": config["hidden_size"],
        "ffn": config["intermediate_size"],
        "q": heads * head_dim,
        "kv": kv_heads * head_dim,
        "head_dim": head_dim,
    }


_Wanted = tuple[str, TensorPattern, int | None, tuple[int, ...]]


def _wanted(config: Mapping[str, Any], sizes: Mapping[str, int], *, tied: bool) -> list[_Wanted]:
    wanted = expected_tensors(
        FAMILIES[config["model_type"]],
        num_layers=config["num_hidden_layers"],
        sizes=sizes,
        flags={name: value for name, value in config.items() if isinstance(value, bool)},
    )
    return [want for want in wanted if not (tied and want[1].role is Role.HEAD)]


def _facts(want: _Wanted, found: Headers, folder: Path) -> TensorFacts:
    """One expected tensor as it is on disk, or the error that says how it is not."""
    name, pattern, layer, shape = want
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
    return TensorFacts(name, pattern.role, layer, shape, header.dtype, file)


def _refuse_extra(
    expected: set[str], found: Headers, config: Mapping[str, Any], folder: Path, *, tied: bool
) -> None:
    """Refuse tensors that the model would not use; some exporters also write a tied head."""
    family: Family = FAMILIES[config["model_type"]]
    for name, (header, file) in found.items():
        if name in expected or name.endswith(family.leftovers):
            continue
        embedding = _name_of(family, Role.EMBED)
        if tied and name == _name_of(family, Role.HEAD):
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


def _name_of(family: Family, role: Role) -> str:
    return next(row.name for row in family.tensors if row.role is role)
