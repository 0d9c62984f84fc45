"""Sums of absolute gradients, sample by sample, without ever holding a gradient of the model.

After one backward pass a parameter's gradient is needed only to add its absolute value to a sum.
So the matrix of a linear layer (or Conv1D) has its gradient switched off. A hook computes that
gradient during the backward pass, in tiles that stay in the processor's cache: each tile is added
to the sum and overwritten by the next. Rows of an embedding that no token of the sample uses are
not touched. The gradient of every other parameter is added and freed by a post-accumulate hook.
Peak memory is the weights, the sums, one tile (or one small tensor), and the activations.

The head and the embedding may share one matrix. Its gradient is the sum of both uses, and the
absolute value must be taken after that sum. The head runs last in the forward pass, so its hook
runs first in the backward pass: it sets the rows that the embedding uses aside (``_held``), and the
embedding's hook adds its own part to them.

Legend: T tokens, M out_features or some of them, N in_features, V vocabulary (or out_features),
H hidden size, R rows in use.
"""

from collections import defaultdict
from collections.abc import Callable, Collection
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from paraknow_core.errors import ArchitectureError
from paraknow_core.models.modules import embed_scale, is_conv1d, is_embedding
from paraknow_core.sensitivity.tile import (
    add_absolute,
    add_absolute_product,
    add_at,
    is_fused,
    product,
    tile_dtype,
)

_TILE_ELEMENTS = {"cpu": 2**18, "cuda": 2**26}
"""Per tile: 1 MiB of float32 fits a core's L2 cache; a GPU is faster with few, large kernels."""


class GradientSums:
    """Adds |dL/dθ| of every backward pass to ``sums``, while used as a context manager.

    Attributes:
        sums: float32, by parameter name, on the parameters' devices; a parameter that several
            modules share appears once, under its first name, with the gradient of all its uses.
    """

    def __init__(self, model: nn.Module, names: Collection[str] | None = None) -> None:
        """Make sums of zeros.

        Args:
            model: whose gradients are added.
            names: of the parameters that are summed; None for all.
        """
        self._watched = [user for user in _users(model) if names is None or user[0] in names]
        self.sums: dict[str, Tensor] = {
            name: torch.zeros_like(p, dtype=torch.float32, memory_format=torch.contiguous_format)
            for name, p, _ in self._watched
        }
        self._totals: list[tuple[str, Tensor]] = []
        self._seen: set[nn.Module] = set()
        self._names: dict[nn.Module, str] = {}  # of the matrices that have their gradient by hooks
        self._held: dict[str, tuple[Tensor, Tensor]] = {}  # name → rows_R, their gradient_RH
        self._buffer = torch.empty(0)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        for name, parameter, modules in self._watched:
            self._exit.callback(parameter.requires_grad_, parameter.requires_grad)
            tied = len(modules) == 2 and is_embedding(modules[0]) and type(modules[1]) is nn.Linear
            alone = len(modules) == 1 and _is_matrix_layer(modules[0])
            if (tied or alone) and all(module.weight is parameter for module in modules):
                parameter.requires_grad_(False)
                self._watch(name, modules, tied=tied)
            else:
                parameter.requires_grad_(True)
                handle: Any = parameter.register_post_accumulate_grad_hook(self._whole(name))
                self._exit.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def end_sample(self) -> str | None:
        """Finish a sample after its backward pass.

        Returns:
            The name of a parameter whose gradient held NaN or infinity, or None.
        """
        names = [name for name, _ in self._totals]
        finite = torch.stack([total for _, total in self._totals]).isfinite().tolist()
        self._totals.clear()
        self._seen.clear()
        return next((name for name, ok in zip(names, finite, strict=True) if not ok), None)

    def held(self, name: str) -> Tensor:
        """What the head set aside for the embedding that it shares a matrix with.

        Args:
            name: of the matrix.

        Returns:
            R × H float32, the gradient of the rows in use of the sample whose forward pass was the
            last; zero before the head's backward pass. The embedding's backward pass adds to it,
            so who runs the two apart reads it after the one, and fills it in before the other.
        """
        return self._held[name][1]

    def takes_rows(self, module: nn.Module) -> bool:
        """Whether ``add_rows`` can be called for a linear layer."""
        return type(module) is nn.Linear and module in self._names

    def add_rows(self, module: nn.Module, first: int, dy_TM: Tensor, x_TN: Tensor) -> None:
        """Add the gradient of some rows of a linear layer's matrix, in place of its own hook.

        For a head whose outputs are too many to be in memory at once: who runs it calls this in
        the backward pass, once for each row.

        Args:
            module: whose ``takes_rows`` is true.
            first: number of the first of the M rows.
            dy_TM: the gradient of the layer's outputs in these rows.
            x_TN: the layer's input.
        """
        self._product(self._names[module], dy_TM, x_TN, first)

    def _watch(self, name: str, modules: list[Any], *, tied: bool) -> None:
        for module in modules:
            self._names[module] = name
            if is_embedding(module):
                hook = self._embedding(name, tied=tied)
            else:
                hook = self._linear(name, transposed=is_conv1d(module))
            self._exit.callback(module.register_forward_hook(hook).remove)

    def _once(self, name: str, module: nn.Module) -> None:
        if module in self._seen:
            raise ArchitectureError(
                f"The module of {name!r} runs twice in one forward pass; the gradients of its uses "
                "would have to be added before their absolute value is taken. This model cannot "
                "be measured."
            )
        self._seen.add(module)

    def _whole(self, name: str) -> Callable[[Tensor], None]:
        def after_accumulation(parameter: Tensor) -> None:
            gradient = parameter.grad
            parameter.grad = None
            if gradient is not None:
                self._add(name, self.sums[name], gradient)

        return after_accumulation

    def _linear(self, name: str, *, transposed: bool) -> Callable[[nn.Module, Any, Any], None]:
        def after_forward(module: nn.Module, inputs: Any, output: Any) -> None:
            if not torch.is_grad_enabled():
                return  # this pass keeps nothing; it is run again for the backward pass
            self._once(name, module)
            x_TN = inputs[0].detach().flatten(0, -2)

            def backward(dy: Tensor) -> None:
                pair = dy.flatten(0, -2), x_TN
                self._product(name, *(reversed(pair) if transposed else pair))

            output.register_hook(backward)

        return after_forward

    def _embedding(self, name: str, *, tied: bool) -> Callable[[nn.Module, Any, Any], None]:
        def after_forward(module: Any, inputs: Any, output: Any) -> None:
            self._once(name, module)
            rows_R, places_T = torch.unique(inputs[0].flatten(), return_inverse=True)
            if tied:
                held = self.sums[name].new_zeros(len(rows_R), module.embedding_dim)
                self._held[name] = (rows_R, held)
            # As autograd does: the row of the padding token gets no gradient.
            keep_T = inputs[0].flatten() != (
                -1 if module.padding_idx is None else module.padding_idx
            )
            scale = embed_scale(module)

            def backward(dy: Tensor) -> None:
                dy = dy if scale is None else dy * scale.to(dy.dtype)
                self._rows(name, dy.flatten(0, -2), keep_T, rows_R, places_T)

            # No parameter before it requires a gradient, so the graph has to begin here.
            output.requires_grad_().register_hook(backward)

        return after_forward

    def _product(self, name: str, dy_TM: Tensor, x_TN: Tensor, first: int = 0) -> None:
        """Add |dyᵀ x| in tiles of whole rows; rows that the embedding shares are set aside.

        The M rows begin at ``first``.

        A Conv1D's weight is N×M: its hook passes x as ``dy_TM``, and dy as ``x_TN``.
        """
        sums_VN = self.sums[name]
        size_M, size_N = dy_TM.shape[1], x_TN.shape[1]
        if is_fused(dy_TM):
            own_TM = self._set_aside(name, dy_TM, x_TN, first)
            total = add_absolute_product(sums_VN[first : first + size_M], own_TM, x_TN)
            self._totals.append((name, total))
            return
        step = min(size_M, max(1, _TILE_ELEMENTS.get(dy_TM.device.type, 2**18) // size_N))
        buffer = self._scratch(step * size_N, dy_TM)
        starts = range(first, first + size_M, step)
        held_R, held_RN, bounds = self._held_back(name, starts, first + size_M)
        for number, start in enumerate(starts):
            stop = min(start + step, first + size_M)
            tile = buffer[: (stop - start) * size_N].view(stop - start, size_N)
            product(dy_TM[:, start - first : stop - first].T, x_TN, tile)
            if held_R is not None and held_RN is not None:
                mine = slice(bounds[number], bounds[number + 1])
                held_RN[mine] = tile[held_R[mine] - start].to(held_RN.dtype)
                tile[held_R[mine] - start] = 0
            self._add(name, sums_VN[start:stop], tile)

    def _set_aside(self, name: str, dy_TM: Tensor, x_TN: Tensor, first: int) -> Tensor:
        """Keep the rows that the embedding shares; returns dy without them, so that they add 0."""
        if name not in self._held:
            return dy_TM
        rows_R, held_RN = self._held[name]
        mine_R = (rows_R >= first) & (rows_R < first + dy_TM.shape[1])
        cols_R = rows_R[mine_R] - first
        found_RN = held_RN.new_empty(len(cols_R), x_TN.shape[1])
        product(dy_TM[:, cols_R].T, x_TN, found_RN)
        held_RN[mine_R] = found_RN
        return dy_TM.index_fill(1, cols_R, 0)

    def _held_back(
        self, name: str, starts: range, end: int
    ) -> tuple[Tensor | None, Tensor | None, list[int]]:
        """For a tied matrix: the rows in use, where to keep them, and the bounds of each tile."""
        if name not in self._held:
            return None, None, []
        rows_R, held_RN = self._held[name]
        edges = torch.tensor([*starts, end], device=rows_R.device)
        return rows_R, held_RN, torch.searchsorted(rows_R, edges).tolist()

    def _rows(
        self, name: str, dy_TH: Tensor, keep_T: Tensor, rows_R: Tensor, places_T: Tensor
    ) -> None:
        """Add the embedding's gradient: per row in use, the sum over its places in the sample."""
        _, gradient_RH = self._held.pop(name, (None, None))
        if gradient_RH is None:
            gradient_RH = self.sums[name].new_zeros(len(rows_R), dy_TH.shape[1])
        add_at(gradient_RH, places_T[keep_T], dy_TH[keep_T].float())
        self._totals.append((name, gradient_RH.abs_().sum()))
        self.sums[name].index_add_(0, rows_R, gradient_RH)

    def _add(self, name: str, sums: Tensor, gradient: Tensor) -> None:
        """Add a gradient's absolute value, in place, and note its total for the finite check."""
        self._totals.append((name, add_absolute(sums, gradient)))

    def _scratch(self, size: int, like: Tensor) -> Tensor:
        kept, dtype = self._buffer, tile_dtype(like)
        if kept.numel() < size or kept.dtype != dtype or kept.device != like.device:
            self._buffer = torch.empty(size, dtype=dtype, device=like.device)
        return self._buffer[:size]


def _is_matrix_layer(module: Any) -> bool:
    return type(module) is nn.Linear or is_embedding(module) or is_conv1d(module)


def _users(model: nn.Module) -> list[tuple[str, Any, list[Any]]]:
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
