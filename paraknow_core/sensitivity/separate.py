"""How the gradient of a parameter comes about for each sample of a batch on its own.

Of a matrix and of a bias it is computed from the rows of each sample (``gradient_sums``). The
backward pass of a norm adds up all samples before an absolute value can be taken. A norm is small
beside the matrix products, so it is run once more on each sample, with its own backward pass.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

import torch
from torch import Tensor, nn

from paraknow_core.errors import ArchitectureError
from paraknow_core.models.modules import is_conv1d, is_embedding
from paraknow_core.sensitivity.tile import product


class GradientKind(Enum):
    """How the gradient of a parameter is come by.

    Of a matrix and a bias from rows, of a norm by running it again; of any other by autograd, for
    all that goes through the model together.
    """

    MATRIX = auto()
    BIAS = auto()
    NORM = auto()
    OTHER = auto()


def kind_of(parameter: nn.Parameter, modules: Sequence[Any]) -> GradientKind:
    """Say how the gradient of a parameter is come by.

    Args:
        parameter: of a model.
        modules: that hold it, an embedding before a head.
    """
    tied = len(modules) == 2 and is_embedding(modules[0]) and type(modules[1]) is nn.Linear
    alone = len(modules) == 1
    linear = alone and (type(modules[0]) is nn.Linear or is_conv1d(modules[0]))
    if (tied or linear or (alone and is_embedding(modules[0]))) and all(
        module.weight is parameter for module in modules
    ):
        return GradientKind.MATRIX
    if linear:
        return GradientKind.BIAS
    return GradientKind.NORM if alone and _is_norm(modules[0]) else GradientKind.OTHER


class Modules:
    """Those that ran in a forward pass."""

    def __init__(self) -> None:
        self._seen: set[nn.Module] = set()

    def add(self, name: str, module: nn.Module) -> None:
        """Note that a module runs.

        Raises:
            ArchitectureError: if it has run already.
        """
        if module in self._seen:
            raise ArchitectureError(
                f"The module of {name!r} runs twice in one forward pass; the gradients of its uses "
                "would have to be added before their absolute value is taken. This model cannot "
                "be measured."
            )
        self._seen.add(module)

    def clear(self) -> None:
        """Forget them, for the next pass."""
        self._seen.clear()


class Totals:
    """The sum of the absolute gradient of every parameter in every sample of a batch."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], Tensor] = {}

    def note(self, sample: int, name: str, total: Tensor) -> None:
        """Add what a part of a parameter sums up to; NaN or infinite if an element is."""
        before = self._found.get((sample, name))
        self._found[sample, name] = total if before is None else before.add_(total)

    def broken(self) -> tuple[int, str] | None:
        """The first sample and parameter whose gradient holds NaN or infinity; forgets all."""
        places = sorted(self._found, key=lambda place: place[0])
        finite = torch.stack([self._found[place] for place in places]).isfinite().tolist()
        self._found.clear()
        return next((place for place, ok in zip(places, finite, strict=True) if not ok), None)


def users(model: nn.Module) -> list[tuple[str, Any, list[Any]]]:
    """Each parameter's name, itself, and the modules that hold it, an embedding before a head."""
    users: dict[Tensor, list[Any]] = defaultdict(list)
    for module in model.modules():
        for parameter in module._parameters.values():  # `named_parameters` drops repeated uses
            if parameter is not None:
                users[parameter].append(module)
    return [
        (name, parameter, sorted(users[parameter], key=lambda module: type(module) is nn.Linear))
        for name, parameter in model.named_parameters()
    ]


def _is_norm(module: nn.Module) -> bool:
    """Whether a module is a norm of the table's families: one tensor in, no modules inside."""
    return type(module).__name__.endswith(("RMSNorm", "LayerNorm")) and not list(module.children())


def watch_norm(
    module: Any,
    parameters: Sequence[nn.Parameter],
    x: Tensor,
    y: Tensor,
    take: Callable[[int, Sequence[Tensor]], None],
) -> None:
    """Have the gradients of a norm's parameters in the backward pass of what came out of it.

    Args:
        module: that ``kind_of`` calls a norm.
        parameters: of it, that no gradient is asked of otherwise.
        x: what went in; its first dimension is the samples.
        y: what came out, of the same shape; its gradient is zero where a sample has no token.
        take: called with each sample's number and the gradients.
    """
    x = x.detach()

    def backward(dy: Tensor) -> None:
        for number in range(len(x)):
            mine = slice(number, number + 1)
            take(number, _gradients(module, parameters, x[mine], dy[mine]))

    y.register_hook(backward)  # type: ignore[no-untyped-call]


def _gradients(
    module: Any, parameters: Sequence[nn.Parameter], x: Tensor, dy: Tensor
) -> Sequence[Tensor]:
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            y = module.forward(x)  # not called: its hooks would run
        return torch.autograd.grad(y, list(parameters), dy)
    finally:
        for parameter in parameters:
            parameter.requires_grad_(False)


def in_tiles(
    held: Sequence[tuple[Tensor, Tensor]], edges: Sequence[int]
) -> list[tuple[Tensor, Tensor, list[int]]]:
    """Find in which tile of a tied matrix the rows lie that its embedding uses.

    Args:
        held: of each sample: the rows in use, ascending, and where their gradient is kept.
        edges: first rows of the tiles, and the end of the last.

    Returns:
        The same, and for each sample where each tile begins in the rows in use, and the last ends.
    """
    found = []
    for rows_R, held_RN in held:
        at = torch.tensor(edges, device=rows_R.device)
        found.append((rows_R, held_RN, torch.searchsorted(rows_R, at).tolist()))
    return found


def move_rows(
    held: tuple[Tensor, Tensor, list[int]], number: int, tile_MN: Tensor, start: int
) -> None:
    """Move the rows of a tile that the embedding uses to where they are kept.

    Args:
        held: of the sample, from ``in_tiles``.
        number: of the tile.
        tile_MN: the gradient of M rows; those moved are zero then.
        start: number of the tile's first row.
    """
    rows_R, held_RN, bounds = held
    mine = slice(bounds[number], bounds[number + 1])
    held_RN[mine] = tile_MN[rows_R[mine] - start].to(held_RN.dtype)
    tile_MN[rows_R[mine] - start] = 0


def set_aside(rows_R: Tensor, held_RN: Tensor, dy_TM: Tensor, x_TN: Tensor, first: int) -> Tensor:
    """Keep the gradient of the rows of a tied matrix that the embedding uses.

    Args:
        rows_R: the rows in use.
        held_RN: where it is kept.
        dy_TM: the gradient of the head's outputs in M rows.
        x_TN: what went into the head.
        first: number of the first of the M rows.

    Returns:
        ``dy_TM`` with zeros for these rows, so that they add nothing.
    """
    mine_R = (rows_R >= first) & (rows_R < first + dy_TM.shape[1])
    cols_R = rows_R[mine_R] - first
    found_RN = held_RN.new_empty(len(cols_R), x_TN.shape[1])
    product(dy_TM[:, cols_R].T, x_TN, found_RN)
    held_RN[mine_R] = found_RN
    return dy_TM.index_fill(1, cols_R, 0)
