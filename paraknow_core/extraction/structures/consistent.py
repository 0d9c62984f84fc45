"""The consistent index cut: what one matrix drops, every matrix that touches it drops too.

A dimension of the residual stream, an FFN neuron or an attention head is one thing in several
matrices. Weight subcloning (arXiv 2312.09299) ranks each of them once and cuts all matrices
alike, so that the parts still work together; "Initializing Models with Larger Ones" (weight
selection, arXiv 2311.18823) finds such consistency to matter as well. Here the rank is the
sensitivity summed over all transferred matrices that touch the thing.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

from paraknow_core.errors import ShapeError
from paraknow_core.extraction.structures.base import Place, Request, greatest, line_sums, place_of
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.models.family_tables import FAMILIES

if TYPE_CHECKING:
    from torch import Tensor


class Axis(StrEnum):
    """What the rows or columns of a matrix are."""

    TOKENS = "tokens"
    RESIDUAL = "residual"
    NEURONS = "neurons"
    QUERIES = "queries"
    KEYS = "keys"


AXES: Mapping[Role, tuple[Axis, Axis]] = MappingProxyType(
    {
        Role.EMBED: (Axis.TOKENS, Axis.RESIDUAL),
        Role.Q: (Axis.QUERIES, Axis.RESIDUAL),
        Role.K: (Axis.KEYS, Axis.RESIDUAL),
        Role.V: (Axis.KEYS, Axis.RESIDUAL),
        Role.O: (Axis.RESIDUAL, Axis.QUERIES),
        Role.GATE: (Axis.NEURONS, Axis.RESIDUAL),
        Role.UP: (Axis.NEURONS, Axis.RESIDUAL),
        Role.DOWN: (Axis.RESIDUAL, Axis.NEURONS),
        Role.HEAD: (Axis.TOKENS, Axis.RESIDUAL),
    }
)
"""Rows and columns of each role's matrix (out_features × in_features)."""

_Sums = dict[tuple[Axis, int | None], "Tensor"]


def check(teacher: Architecture, student: Architecture, roles: Sequence[str]) -> None:
    """Refuse pairs whose attention heads do not fit into each other.

    Raises:
        ShapeError: names the numbers of heads, key/value heads or head widths that do not fit.
    """
    if not {"q", "k", "v", "o"} & set(roles):
        return
    large, small = (_Heads(model) for model in (teacher, student))
    faults = []
    if small.groups > large.groups:
        faults.append(f"{small.groups} key/value heads cannot come from {large.groups}")
    if small.queries > large.queries:
        faults.append(
            f"{small.queries} query heads to a key/value head cannot come from {large.queries}"
        )
    if small.width > large.width:
        faults.append(f"heads of {small.width} cannot be cut from heads of {large.width}")
    elif small.width != large.width:
        if small.width % 2 or large.width % 2:
            faults.append(f"rotary pairs need even widths, not {small.width} and {large.width}")
        faults += [
            f"the rotary embedding of {family} may rotate only a part of each head, so heads of "
            f"{large.width} cannot be narrowed to {small.width}"
            for family in sorted({teacher.model_type, student.model_type})
            if FAMILIES[family].partly_turned
        ]
    if faults:
        raise ShapeError(
            "The structure 'consistent' keeps attention heads whole, which this pair does not "
            "allow: "
            + "; ".join(faults)
            + ". Leave attention out of extract.roles, or take another structure."
        )


class _Heads:
    """How a model's attention is divided: key/value groups, query heads in each, their width."""

    def __init__(self, model: Architecture) -> None:
        self.groups = model.num_kv_heads
        self.queries = model.num_heads // model.num_kv_heads
        self.width = model.head_dim


def find(
    requests: Sequence[Request], teacher: Architecture, student: Architecture
) -> Iterable[Place]:
    """Rank each dimension, neuron and head once, and cut every matrix by it (arXiv 2312.09299, §3).

    One ranking of residual-stream dimensions for the whole model; one of FFN neurons and one of
    key/value groups in each layer, and in each kept group one of its query heads. Where heads get
    narrower, one ranking in each layer of the pairs (i, i + width/2) that rotary embeddings rotate
    together, the same for all heads. What is kept stays in the teacher's order.
    """
    check(teacher, student, [str(asked.match.role) for asked in requests])
    sums = _sums(requests)
    kept = _kept(sums, teacher, student)
    for asked in requests:
        row_axis, col_axis = AXES[asked.match.role]
        layer = asked.match.student_layer
        rows = slice(0, asked.rows) if row_axis is Axis.TOKENS else kept[_key(row_axis, layer)]
        yield place_of(asked.scores, rows, kept[_key(col_axis, layer)])


def _key(axis: Axis, layer: int | None) -> tuple[Axis, int | None]:
    return axis, None if axis is Axis.RESIDUAL else layer


def _sums(requests: Sequence[Request]) -> _Sums:
    """Sensitivity of every dimension, neuron and head, over all matrices that it is in."""
    sums: _Sums = {}
    for asked in requests:
        for axis, line in zip(AXES[asked.match.role], line_sums(asked.scores), strict=True):
            key = _key(axis, asked.match.student_layer)
            if axis is not Axis.TOKENS:
                sums[key] = sums[key] + line if key in sums else line
    return sums


def _kept(sums: _Sums, teacher: Architecture, student: Architecture) -> _Sums:
    kept: _Sums = {}
    sizes = {Axis.RESIDUAL: student.hidden_size, Axis.NEURONS: student.intermediate_size}
    for (axis, layer), line in sums.items():
        if axis in sizes:
            kept[axis, layer] = greatest(line, sizes[axis])
    for layer in {layer for axis, layer in sums if axis in (Axis.QUERIES, Axis.KEYS)}:
        given = (sums.get((axis, layer)) for axis in (Axis.QUERIES, Axis.KEYS))
        queries, keys = keep_heads(*given, teacher=teacher, student=student)
        kept[Axis.QUERIES, layer], kept[Axis.KEYS, layer] = queries, keys
    return kept


def keep_heads(
    queries: "Tensor | None",
    keys: "Tensor | None",
    *,
    teacher: Architecture,
    student: Architecture,
) -> tuple["Tensor", "Tensor"]:
    """Choose whole heads of one layer.

    Args:
        queries: sensitivity of each row of q (column of o), heads × width; None if neither is
            transferred.
        keys: sensitivity of each row of k and v, key/value heads × width; None likewise.
        teacher: the model whose heads they are.
        student: says how many heads are kept, and how wide.

    Returns:
        The kept rows of q (columns of o), and of k and v: ascending head by head.
    """
    import torch

    large, small = _Heads(teacher), _Heads(student)
    shape = large.groups, large.queries, large.width
    empty = torch.zeros(shape[0] * shape[1] * shape[2], dtype=torch.float64)
    q_GQD = (empty if queries is None else queries).view(shape)
    k_GD = (empty[: shape[0] * shape[2]] if keys is None else keys).view(shape[0], shape[2])
    groups = greatest(q_GQD.sum((1, 2)) + k_GD.sum(1), small.groups)
    heads = [greatest(q_GQD[group].sum(1), small.queries) for group in groups]
    width_D = k_GD[groups].sum(0)
    for group, chosen in zip(groups, heads, strict=True):
        width_D = width_D + q_GQD[group][chosen].sum(0)
    dims = _dims(width_D, small.width)
    starts = torch.cat([group * large.queries + h for group, h in zip(groups, heads, strict=True)])
    return tuple(  # type: ignore[return-value]
        (start[:, None] * large.width + dims).flatten() for start in (starts, groups)
    )


def _dims(width_D: "Tensor", kept: int) -> "Tensor":
    """The dimensions of a head that are kept, rotary pairs together."""
    import torch

    width = len(width_D)
    if kept == width:
        return torch.arange(width)
    pairs = greatest(width_D[: width // 2] + width_D[width // 2 :], kept // 2)
    return torch.cat([pairs, pairs + width // 2])
