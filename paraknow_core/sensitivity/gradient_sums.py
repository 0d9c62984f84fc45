"""Sums of absolute gradients, sample by sample, without ever holding a gradient of the model.

After one backward pass a parameter's gradient is needed only to add its absolute value to a sum.
Samples may go through the model together (``batches``); what is added is each one's own gradient.
So the matrix of a linear layer (or Conv1D) has its gradient switched off. A hook computes that
gradient during the backward pass, in tiles that stay in the processor's cache: each tile is added
to the sum and overwritten by the next. Rows of an embedding that no token of the sample uses are
not touched. A tile takes the samples of a batch one after the other, each with its own rows alone:
sums are read and written once a batch, and nothing is padded in these products. The gradient of a
bias is a sum of rows; norms are run once more, sample by sample (``separate``). The gradient of any
other parameter is added and freed by a post-accumulate hook; where there is one, samples go one by
one. Peak memory is the weights, the sums, one tile (or one small tensor), and the activations.

The head and the embedding may share one matrix. Its gradient is the sum of both uses, and the
absolute value must be taken after that sum. The head runs last in the forward pass, so its hook
runs first in the backward pass: it sets the rows that the embedding uses aside (``_held``), and the
embedding's hook adds its own part to them.

Legend: T tokens of all samples, M out_features or some of them, N in_features, V vocabulary (or
out_features), H hidden size, R rows in use.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor, nn

from paraknow_core.models.modules import embed_scale, is_conv1d, is_embedding
from paraknow_core.sensitivity.batches import Batch
from paraknow_core.sensitivity.separate import (
    GradientKind,
    Modules,
    Totals,
    in_tiles,
    kind_of,
    move_rows,
    set_aside,
    users,
    watch_norm,
)
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
        separates: whether samples may go through the model together.
    """

    def __init__(self, model: nn.Module, names: Collection[str] | None = None) -> None:
        """Make sums of zeros.

        Args:
            model: whose gradients are added.
            names: of the parameters that are summed; None for all.
        """
        self._watched = [user for user in users(model) if names is None or user[0] in names]
        self.sums: dict[str, Tensor] = {
            name: torch.zeros_like(p, dtype=torch.float32, memory_format=torch.contiguous_format)
            for name, p, _ in self._watched
        }
        self.separates = all(
            kind_of(p, modules) is not GradientKind.OTHER for _, p, modules in self._watched
        )
        self._batch: Batch | None = None
        self._totals = Totals()
        self._seen = Modules()
        self._names: dict[nn.Module, str] = {}  # of the matrices that have their gradient by hooks
        self._held: dict[str, list[tuple[Tensor, Tensor]]] = {}  # of each sample: rows_R, their dRH
        self._buffer = torch.empty(0)
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        norms: dict[nn.Module, dict[str, nn.Parameter]] = defaultdict(dict)
        for name, parameter, modules in self._watched:
            self._exit.callback(parameter.requires_grad_, parameter.requires_grad)
            kind = kind_of(parameter, modules)
            parameter.requires_grad_(kind is GradientKind.OTHER)
            if kind is GradientKind.MATRIX:
                self._watch(name, modules)
            elif kind is GradientKind.BIAS:
                self._on_forward(modules[0], self._bias(name))
            elif kind is GradientKind.NORM:
                norms[modules[0]][name] = parameter
            else:
                handle: Any = parameter.register_post_accumulate_grad_hook(self._whole(name))
                self._exit.callback(handle.remove)
        for module, parameters in norms.items():
            self._on_forward(module, self._norm(parameters))
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def begin(self, batch: Batch | None) -> None:
        """Say what goes through the model next; None for a sample by itself, in 1 × T."""
        self._batch = batch

    def end(self) -> tuple[int, str] | None:
        """Finish a batch, or a sample by itself, after its backward pass.

        Returns:
            The first sample of the batch, and the name of a parameter whose gradient held NaN or
            infinity in it; None for none.
        """
        self._seen.clear()
        return self._totals.broken()

    def held(self, name: str) -> list[Tensor]:
        """What the head set aside for the embedding that it shares a matrix with.

        Args:
            name: of the matrix.

        Returns:
            For each sample of the batch whose forward pass was the last: R × H float32, the
            gradient of the rows that the sample uses; zero before the head's backward pass. The
            embedding's backward pass adds to it, so who runs the two apart reads it after the one,
            and fills it in before the other.
        """
        return [gradient_RH for _, gradient_RH in self._held[name]]

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

    def _watch(self, name: str, modules: list[Any]) -> None:
        for module in modules:
            self._names[module] = name
            if is_embedding(module):
                self._on_forward(module, self._embedding(name, tied=len(modules) == 2))
            else:
                self._on_forward(module, self._linear(name, transposed=is_conv1d(module)))

    def _on_forward(self, module: Any, hook: Callable[[Any, Any, Any], None]) -> None:
        self._exit.callback(module.register_forward_hook(hook).remove)

    def _parts(self, rows: int) -> list[slice]:
        """Each sample's rows."""
        return [slice(0, rows)] if self._batch is None else self._batch.rows(rows)

    def _whole(self, name: str) -> Callable[[Tensor], None]:
        def after_accumulation(parameter: Tensor) -> None:
            gradient = parameter.grad
            parameter.grad = None
            if gradient is not None:
                self._add(0, name, self.sums[name], gradient)

        return after_accumulation

    def _bias(self, name: str) -> Callable[[Any, Any, Any], None]:
        def backward(dy: Tensor) -> None:
            dy_TM = dy.flatten(0, -2)
            for sample, part in enumerate(self._parts(len(dy_TM))):
                self._add(sample, name, self.sums[name], dy_TM[part].sum(0))

        def after_forward(_module: Any, _inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled():
                output.register_hook(backward)

        return after_forward

    def _norm(self, parameters: dict[str, nn.Parameter]) -> Callable[[Any, Any, Any], None]:
        def backward(sample: int, gradients: Sequence[Tensor]) -> None:
            for name, gradient in zip(parameters, gradients, strict=True):
                self._add(sample, name, self.sums[name], gradient)

        def after_forward(module: Any, inputs: Any, output: Any) -> None:
            if torch.is_grad_enabled():
                self._seen.add(next(iter(parameters)), module)
                watch_norm(module, list(parameters.values()), inputs[0], output, backward)

        return after_forward

    def _linear(self, name: str, *, transposed: bool) -> Callable[[nn.Module, Any, Any], None]:
        def after_forward(module: nn.Module, inputs: Any, output: Any) -> None:
            if not torch.is_grad_enabled():
                return  # this pass keeps nothing; it is run again for the backward pass
            self._seen.add(name, module)
            x_TN = inputs[0].detach().flatten(0, -2)

            def backward(dy: Tensor) -> None:
                pair = dy.flatten(0, -2), x_TN
                self._product(name, *(reversed(pair) if transposed else pair))

            output.register_hook(backward)

        return after_forward

    def _embedding(self, name: str, *, tied: bool) -> Callable[[nn.Module, Any, Any], None]:
        def after_forward(module: Any, inputs: Any, output: Any) -> None:
            self._seen.add(name, module)
            ids_T = inputs[0].flatten()
            parts = self._parts(len(ids_T))
            found = [torch.unique(ids_T[part], return_inverse=True) for part in parts]
            if tied:
                self._held[name] = [
                    (rows_R, self.sums[name].new_zeros(len(rows_R), module.embedding_dim))
                    for rows_R, _ in found
                ]
            # As autograd does: the row of the padding token gets no gradient.
            keep_T = ids_T != (-1 if module.padding_idx is None else module.padding_idx)
            scale = embed_scale(module)

            def backward(dy: Tensor) -> None:
                dy = dy if scale is None else dy * scale.to(dy.dtype)
                dy_TH, held = dy.flatten(0, -2), self._held.pop(name, [])
                for sample, (part, (rows_R, places)) in enumerate(zip(parts, found, strict=True)):
                    if tied:
                        gradient_RH = held[sample][1]
                    else:
                        gradient_RH = self.sums[name].new_zeros(len(rows_R), dy_TH.shape[1])
                    keep = keep_T[part]
                    add_at(gradient_RH, places[keep], dy_TH[part][keep].float())
                    self._totals.note(sample, name, gradient_RH.abs_().sum())
                    self.sums[name].index_add_(0, rows_R, gradient_RH)

            # No parameter before it requires a gradient, so the graph has to begin here.
            output.requires_grad_().register_hook(backward)

        return after_forward

    def _product(self, name: str, dy_TM: Tensor, x_TN: Tensor, first: int = 0) -> None:
        """Add each sample's |dyᵀ x| in tiles of whole rows; what an embedding shares is set aside.

        The M rows begin at ``first``.

        A Conv1D's weight is N×M: its hook passes x as ``dy_TM``, and dy as ``x_TN``.
        """
        sums_VN = self.sums[name]
        size_M, size_N = dy_TM.shape[1], x_TN.shape[1]
        if is_fused(dy_TM):
            self._fused(name, dy_TM, x_TN, first)
            return
        step = min(size_M, max(1, _TILE_ELEMENTS.get(dy_TM.device.type, 2**18) // size_N))
        buffer = self._scratch(step * size_N, dy_TM)
        starts = range(first, first + size_M, step)
        parts = self._parts(len(dy_TM))
        held = in_tiles(self._held.get(name, []), [*starts, first + size_M])
        for number, start in enumerate(starts):
            stop = min(start + step, first + size_M)
            tile = buffer[: (stop - start) * size_N].view(stop - start, size_N)
            for sample, part in enumerate(parts):
                product(dy_TM[part, start - first : stop - first].T, x_TN[part], tile)
                if held:
                    move_rows(held[sample], number, tile, start)
                self._add(sample, name, sums_VN[start:stop], tile)

    def _fused(self, name: str, dy_TM: Tensor, x_TN: Tensor, first: int) -> None:
        """The same without tiles: a sample's product is added as it is computed."""
        sums_MN = self.sums[name][first : first + dy_TM.shape[1]]
        for sample, part in enumerate(self._parts(len(dy_TM))):
            own_TM, own_TN = dy_TM[part], x_TN[part]
            if name in self._held:
                own_TM = set_aside(*self._held[name][sample], own_TM, own_TN, first)
            self._totals.note(sample, name, add_absolute_product(sums_MN, own_TM, own_TN))

    def _add(self, sample: int, name: str, sums: Tensor, gradient: Tensor) -> None:
        """Add a gradient's absolute value, in place, and note its total for the finite check."""
        self._totals.note(sample, name, add_absolute(sums, gradient))

    def _scratch(self, size: int, like: Tensor) -> Tensor:
        kept, dtype = self._buffer, tile_dtype(like)
        if kept.numel() < size or kept.dtype != dtype or kept.device != like.device:
            self._buffer = torch.empty(size, dtype=dtype, device=like.device)
        return self._buffer[:size]
