"""A model family as data: which tensors a decoder has, their roles and shapes.

A row describes one kind of tensor of the Transformers model: the pattern of its name, its role, and
its shape in terms of the config's sizes. Adding a family means adding rows to ``family_tables``,
not code. Needs no torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What a tensor does in a decoder; QKV and GATE_UP are fused ones, several roles in one."""

    EMBED = "embed"
    Q = "q"
    K = "k"
    V = "v"
    O = "o"  # noqa: E741 - the field's name for the output projection
    GATE = "gate"
    UP = "up"
    DOWN = "down"
    HEAD = "head"
    NORM = "norm"
    BIAS = "bias"
    QKV = "qkv"
    GATE_UP = "gate_up"
    POSITION = "position"


MATRIX_ROLES: tuple[Role, ...] = (
    Role.EMBED,
    Role.Q,
    Role.K,
    Role.V,
    Role.O,
    Role.GATE,
    Role.UP,
    Role.DOWN,
    Role.HEAD,
)
"""The roles of the nine kinds of matrix that carry knowledge, in the order of reports."""


@dataclass(frozen=True)
class TensorPattern:
    """One kind of tensor.

    Attributes:
        name: its name in the Transformers model; ``{layer}`` stands for the layer's number.
        role: what it does.
        dims: its shape; each dimension is the name of a size (see ``expected_tensors``), or a sum
            such as ``q+kv+kv``.
        when: the config's flag that must be true for the tensor to exist; empty for always.
        parts: for a fused matrix, the roles of the terms of its out dimension, in their order.
        per_head: whether the rows of the roles alternate head by head (GPT-NeoX).
        transposed: whether it is stored as in_features × out_features (Conv1D).
    """

    name: str
    role: Role
    dims: tuple[str, ...]
    when: str = ""
    parts: tuple[Role, ...] = ()
    per_head: bool = False
    transposed: bool = False


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes:
        tensors: every kind of tensor that its causal-LM class has.
        leftovers: endings of tensor names that old exports contain and the class does not read.
        aliases: pairs of name prefixes: the model's, and another that files use for it.
        options: fields of the config that only this family reads, by their own names.
        config_names: its own names of common config fields.
        kv_heads: number of key/value heads where the config names none; None: as many as heads.
        head_dim: width of a head where the config names none; None: hidden size / heads.
        ffn_per_hidden: intermediate size / hidden size where the config names none; None: the
            config must name it.
        tied: whether the head is the embedding where the config does not say.
        partly_turned: whether its rotary embedding may rotate only the first part of a head, so
            that the pairs are not (i, i + width/2). An ``Architecture`` does not say how large that
            part is.
        flags: flags that are true where the config does not say.
    """

    tensors: tuple[TensorPattern, ...]
    leftovers: tuple[str, ...] = ("rotary_emb.inv_freq",)
    aliases: tuple[tuple[str, str], ...] = ()
    options: tuple[str, ...] = ()
    config_names: Mapping[str, str] = field(default_factory=dict)
    kv_heads: int | None = None
    head_dim: int | None = None
    ffn_per_hidden: int | None = None
    tied: bool = False
    partly_turned: bool = False
    flags: tuple[str, ...] = ()

    def stored_names(self, name: str) -> tuple[str, ...]:
        """Every name under which files hold the model's tensor ``name``, the model's own first."""
        others = [
            theirs + name.removeprefix(ours)
            for ours, theirs in self.aliases
            if name.startswith(ours)
        ]
        return (name, *others)

    def own_name(self, field_name: str) -> str:
        """What the family's config class calls a common field."""
        return self.config_names.get(field_name, field_name)

    def name_of(self, role: Role) -> str:
        """The name of the first tensor of a role."""
        return next(row.name for row in self.tensors if row.role is role)


@dataclass(frozen=True)
class RowBlocks:
    """Which rows of a fused matrix belong to one role: ``count`` blocks, ``stride`` rows apart."""

    offset: int
    size: int
    stride: int
    count: int

    @property
    def rows(self) -> int:
        """Number of rows in all blocks."""
        return self.size * self.count


@dataclass(frozen=True)
class ExpectedTensor:
    """A tensor that a model of known sizes has: its name, kind, layer (or None) and shape."""

    name: str
    pattern: TensorPattern
    layer: int | None
    shape: tuple[int, ...]
    parts: tuple[tuple[Role, RowBlocks], ...]


def expected_tensors(
    family: Family, *, num_layers: int, sizes: Mapping[str, int], flags: Mapping[str, bool]
) -> Iterator[ExpectedTensor]:
    """Yield every tensor a model of these sizes has, layer by layer.

    Args:
        family: the rows to fill in.
        num_layers: number of decoder layers.
        sizes: numbers for ``vocab``, ``hidden``, ``ffn``, ``q`` (heads × head width), ``kv``
            (key/value heads × head width), ``head_dim`` and ``positions``.
        flags: the config's value of every flag that ``when`` uses; a missing one is false.
    """
    present = [p for p in family.tensors if not p.when or flags.get(p.when, False)]
    for pattern in present:
        if "{layer}" not in pattern.name:
            yield _expected(pattern, None, sizes)
    for layer in range(num_layers):
        for pattern in present:
            if "{layer}" in pattern.name:
                yield _expected(pattern, layer, sizes)


def _expected(
    pattern: TensorPattern, layer: int | None, sizes: Mapping[str, int]
) -> ExpectedTensor:
    return ExpectedTensor(
        name=pattern.name if layer is None else pattern.name.format(layer=layer),
        pattern=pattern,
        layer=layer,
        shape=tuple(sum(sizes[term] for term in dim.split("+")) for dim in pattern.dims),
        parts=_parts(pattern, sizes),
    )


def _parts(pattern: TensorPattern, sizes: Mapping[str, int]) -> tuple[tuple[Role, RowBlocks], ...]:
    """The rows of each role in a fused matrix, one after the other or head by head."""
    out = pattern.dims[1 if pattern.transposed else 0]
    widths = [sizes[term] for term in out.split("+")]
    count = widths[0] // sizes["head_dim"] if pattern.per_head else 1
    starts = [sum(widths[:i]) // count for i in range(len(pattern.parts))]
    return tuple(
        (role, RowBlocks(start, width // count, sum(widths) // count, count))
        for role, start, width in zip(pattern.parts, starts, widths, strict=False)
    )
