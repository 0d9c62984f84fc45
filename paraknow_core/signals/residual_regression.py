"""Residual contributions: each block of the student adds to the stream what the teacher's add.

A closed form of SemAlign's idea (arXiv 2510.24208, §3): the student's blocks are told what to
contribute, in the student's own basis. The teacher's layers are cut into as many consecutive runs
as the student has layers. A ridge map M from the teacher's stream after a run to the student's
after the block is fitted on one half of the texts; on the other half

    E = Δ_T M − Δ_S,

the run's change of the stream, mapped, minus the block's own. A map that was fitted on the same
texts would give back the student's own states, smoothed. E is written into the last matrix of the
block, whose output is added to the stream (``down``); each half is once the one that fits.

Shapes: T = positions, D, S = hidden sizes of teacher and student, N = inputs of ``down``.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from paraknow_core.alignment.layers import layer_runs
from paraknow_core.errors import ArchitectureError
from paraknow_core.models.families import Role
from paraknow_core.signals.activations import kept_inputs
from paraknow_core.signals.reduced_rank import CrossProducts, reduced_rank, ridge_map
from paraknow_core.signals.request import SignalRequest, Signals


class _Sums:
    """What one block needs of one half of the texts; E itself follows from the map later."""

    def __init__(self, theirs: int, ours: int, inputs: int) -> None:
        self.streams = CrossProducts.zeros(ours, theirs)  # student's stream from the teacher's
        self.wanted = CrossProducts.zeros(theirs, inputs)  # the teacher's change from X
        self.own = CrossProducts.zeros(ours, inputs)  # the student's change from X


@torch.no_grad()
def residual_regression(request: SignalRequest) -> Signals:
    """Find the change of every block's last matrix.

    Raises:
        ArchitectureError: if the student's block does not add that matrix's output to the stream
            as it is (Gemma 2 and 3 and OLMo 2 norm it first).
        ShapeError: if the student has more layers than the teacher.
    """
    downs = [name for name, role in request.modules.items() if role == Role.DOWN]
    teacher = request.model(request.teacher_folder)
    student = request.model(request.student_folder)
    blocks, theirs = decoder_layers(student), decoder_layers(teacher)
    runs = layer_runs(num_teacher=len(theirs), num_student=len(blocks))
    _check_added(student, blocks, downs)
    halves: dict[tuple[str, int], _Sums] = {}
    with ExitStack() as stack:
        inputs = kept_inputs(student, downs, stack)
        ours_at, theirs_at = _streams(blocks, stack), _streams(theirs, stack)
        for text, read, order_T in request.each():
            teacher.get_decoder()(input_ids=read.teacher_T[None].to(request.device))
            student.get_decoder()(input_ids=text.student_T[None].to(request.device))
            for name in downs:
                layer = _layer_of(name)
                first, last = runs[layer]
                t_TD, before_TD = theirs_at[last][1], theirs_at[first][0]
                after_TS, own_TS = ours_at[layer][1], ours_at[layer][1] - ours_at[layer][0]
                x_TN, use_T = inputs[name], text.counts_T
                sizes = t_TD.shape[1], after_TS.shape[1], x_TN.shape[1]
                sums = halves.setdefault((name, text.half), _Sums(*sizes))
                sums.streams.add(after_TS[use_T], t_TD[order_T][use_T])
                sums.wanted.add((t_TD - before_TD)[order_T][use_T], x_TN[use_T])
                sums.own.add(own_TS[use_T], x_TN[use_T])
    return {name: _solved(request, name, halves[name, 0], halves[name, 1]) for name in downs}


def _solved(request: SignalRequest, name: str, *halves: _Sums) -> Any:
    """Fit each half's map, use it on the other, and solve for both together."""
    ridge, rank = request.options.ridge, request.rank
    total = CrossProducts.zeros(*halves[0].own.ex_ON.shape)
    for fitted, used in (halves, halves[::-1]):
        map_DS = ridge_map(
            fitted.streams.xx_NN,
            fitted.streams.ex_ON.T,
            positions=fitted.streams.positions,
            ridge=ridge,
            what=f"the map to the stream at {name}",
        )
        total.ex_ON += map_DS.T @ used.wanted.ex_ON - used.own.ex_ON
        total.xx_NN += used.own.xx_NN
        total.positions += used.own.positions
    return reduced_rank(total, rank=rank, ridge=ridge, what=name)


def decoder_layers(model: Any) -> Sequence[Any]:
    """The decoder's blocks, in order."""
    decoder = model.get_decoder()
    found: Sequence[Any] = decoder.layers if hasattr(decoder, "layers") else decoder.h
    return found


def _layer_of(module: str) -> int:
    return next(int(part) for part in module.split(".") if part.isdigit())


def _streams(layers: Sequence[Any], stack: ExitStack) -> dict[int, tuple[Tensor, Tensor]]:
    """Keep the stream before and after every block, T×hidden, at each run on one text."""
    kept: dict[int, tuple[Tensor, Tensor]] = {}

    def keeper(place: int) -> Any:
        def hook(_module: Any, args: tuple[Tensor, ...], output: Any) -> None:
            after = output[0] if isinstance(output, tuple) else output
            kept[place] = args[0].flatten(0, -2), after.flatten(0, -2)

        return hook

    for place, layer in enumerate(layers):
        stack.callback(layer.register_forward_hook(keeper(place)).remove)
    return kept


def _check_added(student: Any, blocks: Sequence[Any], downs: Sequence[str]) -> None:
    """Move the output of the first block's last matrix, and see whether the stream moves as far."""
    for name in downs[:1]:
        block = blocks[_layer_of(name)]
        ids = torch.zeros(1, 1, dtype=torch.int64, device=next(student.parameters()).device)
        seen = []
        for moved in (0.0, 1.0):
            with ExitStack() as stack:
                layer, kept = student.get_submodule(name), _streams([block], stack)
                hook = layer.register_forward_hook(lambda _m, _a, out, by=moved: out + by)
                stack.callback(hook.remove)
                student.get_decoder()(input_ids=ids)
                seen.append(kept[0][1])
        if not torch.allclose(seen[1] - seen[0], torch.ones_like(seen[0]), atol=1e-2):
            raise ArchitectureError(
                f"residual-regression writes into {name}, but this student "
                f"({student.config.model_type}) does not add its output to the stream as it is. "
                "Take another method for the role down."
            )
