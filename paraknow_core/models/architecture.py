"""What is known of a decoder from its files: its sizes, its tensors, and the matrices in them.

A *tensor* is what a file holds; a *matrix* belongs to one role, such as q or up. They differ where
a family stores several roles in one tensor (fused projections) or a matrix transposed (GPT-2's
Conv1D). Needs no torch.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Self

from paraknow_core.checkpoint.safetensors_header import BYTES_PER_ELEMENT
from paraknow_core.errors import ArchitectureError
from paraknow_core.models.families import MATRIX_ROLES, Role, RowBlocks

_TIED_HEAD = "lm_head"
"""What every supported family's class calls the module of its head."""


@dataclass(frozen=True)
class Matrix:
    """One role's matrix in one place, as out_features × in_features, however it is stored.

    Attributes:
        role: what it does.
        layer: number of its decoder layer; None for the embedding and the head.
        name: of the tensor that holds it, in the checkpoint and in sensitivity maps.
        module: dotted name of its module in the Transformers model, as PEFT sees it.
        shape: (out_features, in_features); (vocabulary, hidden) for the embedding.
        dtype: element type on disk, as safetensors names it.
        whole: shape of the module's complete matrix; differs from ``shape`` if it is fused.
        blocks: which rows of the complete matrix belong to this role, in order.
        transposed: whether the tensor is stored as in_features × out_features.
    """

    role: Role
    layer: int | None
    name: str
    module: str
    shape: tuple[int, int]
    dtype: str
    whole: tuple[int, int]
    blocks: RowBlocks
    transposed: bool = False

    @property
    def num_elements(self) -> int:
        """Number of parameters in it."""
        return math.prod(self.shape)

    @property
    def is_fused(self) -> bool:
        """Whether its module holds other roles too."""
        return self.shape != self.whole


@dataclass(frozen=True)
class TensorFacts:
    """One tensor of a model.

    Attributes:
        name: as in the checkpoint.
        role: what it does.
        layer: number of its decoder layer; None outside the layers.
        shape: as it is stored: (out_features, in_features) for a matrix unless ``transposed``,
            (vocabulary, hidden) for the embedding.
        dtype: element type on disk, as safetensors names it: F32, BF16 or F16.
        file: name of the file in the model folder that holds it.
        parameter: its name in ``named_parameters()`` of the Transformers model; ``name`` if empty.
        transposed: whether it is a matrix stored as in_features × out_features.
        parts: the roles in a fused matrix, and their rows of the out dimension.
    """

    name: str
    role: Role
    layer: int | None
    shape: tuple[int, ...]
    dtype: str
    file: str
    parameter: str = ""
    transposed: bool = False
    parts: tuple[tuple[Role, RowBlocks], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameter", self.parameter or self.name)

    @property
    def num_elements(self) -> int:
        """Number of parameters in it."""
        return math.prod(self.shape)

    @property
    def matrices(self) -> tuple[Matrix, ...]:
        """Its matrices: none in a norm, bias or position, several in a fused projection."""
        if self.role not in MATRIX_ROLES and not self.parts:
            return ()
        rows, cols = reversed(self.shape) if self.transposed else self.shape
        parts = self.parts or ((self.role, RowBlocks(0, rows, rows, 1)),)
        return tuple(
            Matrix(
                role=role,
                layer=self.layer,
                name=self.name,
                module=self.parameter.removesuffix(".weight"),
                shape=(blocks.rows, cols),
                dtype=self.dtype,
                whole=(rows, cols),
                blocks=blocks,
                transposed=self.transposed,
            )
            for role, blocks in parts
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, without the fields that have their default."""
        fields = asdict(self) | {"role": self.role.value, "shape": list(self.shape)}
        fields["parts"] = {role.value: list(asdict(b).values()) for role, b in self.parts}
        quiet = {"parameter": self.name, "transposed": False, "parts": {}}
        return {k: v for k, v in fields.items() if k not in quiet or v != quiet[k]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``'s values; raises KeyError, TypeError or ValueError."""
        parts = tuple(
            (Role(role), RowBlocks(*numbers)) for role, numbers in fields.get("parts", {}).items()
        )
        changed = {"role": Role(fields["role"]), "shape": tuple(fields["shape"]), "parts": parts}
        return cls(**{**fields, **changed})


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
    def matrices(self) -> tuple[Matrix, ...]:
        """Every matrix, fused ones split into their roles."""
        return tuple(matrix for tensor in self.tensors for matrix in tensor.matrices)

    @cached_property
    def _places(self) -> dict[tuple[Role, int | None], Matrix]:
        return {(m.role, m.layer): m for m in self.matrices}

    @property
    def has_head(self) -> bool:
        """Whether the head is a matrix of its own."""
        return not self.tied

    @cached_property
    def roles(self) -> tuple[Role, ...]:
        """The roles of matrices that exist as weights of their own, in report order."""
        found = {m.role for m in self.matrices}
        return tuple(role for role in MATRIX_ROLES if role in found)

    @property
    def num_parameters(self) -> int:
        """Number of parameters, a tied head counted once."""
        return sum(t.num_elements for t in self.tensors)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights as stored on disk."""
        return sum(t.num_elements * BYTES_PER_ELEMENT[t.dtype] for t in self.tensors)

    def matrix(self, role: Role, layer: int | None = None) -> Matrix:
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

    def modules(self, roles: Collection[str]) -> dict[str, tuple[Matrix, ...]]:
        """The modules that hold a matrix of these roles, each with those matrices.

        A LoRA adapter changes a module as a whole: in a fused projection, other roles as well.

        Args:
            roles: names of roles; a tied head has no matrix and is left out.
        """
        found: dict[str, tuple[Matrix, ...]] = {}
        for matrix in self.matrices:
            if matrix.role in roles:
                found[matrix.module] = (*found.get(matrix.module, ()), matrix)
        return found

    def is_transposed(self, modules: Collection[str]) -> bool:
        """Whether any of these modules stores its matrix as in_features × out_features."""
        return any(m.transposed for m in self.matrices if m.module in modules)

    def module_of(self, role: Role, layer: int | None = None) -> str:
        """The dotted name of the module that a role's matrix belongs to, as PEFT sees it.

        Such as ``"model.layers.3.self_attn.q_proj"``; a tied head has its module too.

        Raises:
            ArchitectureError: if there is no such module.
        """
        if role == Role.HEAD and self.tied and layer is None:
            return _TIED_HEAD
        return self.matrix(role, layer).module

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; ``from_json`` gives an equal object back."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return fields | {"tensors": [tensor.to_json() for tensor in self.tensors]}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``'s values.

        Raises:
            ArchitectureError: if a field is missing, unknown or no valid role.
        """
        try:
            tensors = tuple(TensorFacts.from_json(t) for t in fields["tensors"])
            return cls(**{**fields, "tensors": tensors})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchitectureError(f"Not a description of an architecture: {error}.") from error
