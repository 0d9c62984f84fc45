"""Updates of a student from a teacher's parameters, as the PEFT folder of a start point.

Shapes: M = out_features, N = in_features, R = rank.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.alignment.matrices import Match
from paraknow_core.errors import ConfigError, NumericsError
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.lora.start_point import plain_start, write_start
from paraknow_core.models.matrices import assemble
from paraknow_core.models.modules import logical
from paraknow_core.progress import Progress, no_progress
from paraknow_core.registry import Registry
from paraknow_core.sensitivity.accumulate import answer_loss
from paraknow_core.signals.scales import at_scales, best_scale
from paraknow_core.svd.truncated import truncated_svd
from paraknow_core.transport.material import TransportMaterial, TransportOptions
from paraknow_core.transport.neurons import laten
from paraknow_core.transport.request import TransportRequest, material_of
from paraknow_core.transport.theseus import theseus
from paraknow_core.transport.weights import weight_transport

_ROUNDING = 1e-6
"""An update below this share of the student's matrix is the rounding of float32: none at all."""

Updates = Callable[[TransportMaterial], Iterator[tuple[Match, Tensor]]]


@dataclass(frozen=True)
class TransportMethod:
    """A method that changes a student by a teacher's parameters.

    Attributes:
        update: gives each matrix and what is to be added to it, M × N in float64.
        needs_base: whether it asks for what the teacher was tuned from.
        uses_maps: whether it fits maps between activations.
        looks_at_answers: whether it needs labels, with the given settings.
    """

    update: Updates
    needs_base: bool = False
    uses_maps: bool = True
    looks_at_answers: Callable[[TransportOptions], bool] = lambda _options: False


TRANSPORTS: Registry[TransportMethod] = Registry(
    "transport",
    {
        "theseus": TransportMethod(
            theseus, needs_base=True, looks_at_answers=lambda options: options.gradfix
        ),
        "weight-transport": TransportMethod(weight_transport),
        "laten": TransportMethod(laten, uses_maps=False, looks_at_answers=lambda _options: True),
    },
)
"""Every such method by name."""


def _as_it_is(update: LoraFactors, weight_MN: Tensor, rank: int) -> LoraFactors:  # noqa: ARG001
    return update


def _scaled_down(update: LoraFactors, weight_MN: Tensor, rank: int) -> LoraFactors:
    """The student's own matrix scaled down, by as much as the update is large.

    ``−α W_S`` of the update's rank, with the α at which it has the update's size: what an update
    does that carries nothing, as one does whose transported matrix has shrunk to nothing.
    """
    size = float((update.b @ update.a).norm())
    own = truncated_svd(weight_MN, rank=rank)
    alpha = size / float(own.s_R.double().norm())
    return LoraFactors(a=own.vh_RN.double(), b=(-alpha * own.u_MR * own.s_R).double())


INSTEAD: Registry[Callable[[LoraFactors, Tensor, int], LoraFactors]] = Registry(
    "update of a control", {"": _as_it_is, "scaled-down": _scaled_down}
)
"""What a control adds in place of a module's update, given the update, W_S and the rank."""


@dataclass(frozen=True)
class TransportedUpdate:
    """An update as it was written.

    Attributes:
        adapter: as it is in the folder.
        facts: what there is to tell of it: how well the maps do, how large the update is.
        plain: modules that the teacher has nothing for; they start as plain LoRA.
    """

    adapter: Adapter
    facts: Mapping[str, Any]
    plain: tuple[str, ...]


def transported_update(
    request: TransportRequest, folder: Path, *, progress: Progress = no_progress
) -> TransportedUpdate:
    """Make an update of a student out of a teacher's parameters, and write it as a PEFT folder.

    Args:
        request: what is asked for.
        folder: is made if need be.
        progress: called with what is done, the total, and a message.

    Raises:
        ConfigError: for unknown names, a missing or wrong base, or an update that is zero.
        DataError: if there are no answers where they are needed.
        ShapeError: if the student has more layers than the teacher, or an adapter is not the
            teacher's.
        RankError: if the rank is not in 1..min(M, N) of every matrix.
        NumericsError: if maps have more unknowns than positions and no ridge, or the update holds
            NaN or infinity.
    """
    known = TRANSPORTS.choose(request.method)
    instead = INSTEAD.choose(request.instead)
    material = material_of(
        request,
        needs_base=known.needs_base,
        needs_answers=request.scale is None or known.looks_at_answers(request.options),
        uses_maps=known.uses_maps,
        progress=progress,
    )
    student = material.models[1]
    # First of all: it checks the rank.
    plain = plain_start(
        request.student,
        folder,
        roles=request.roles,
        rank=request.rank,
        alpha=request.alpha,
        seed=request.seed,
    )
    found, kept = _found(request, known, material)
    losses = _losses(material, found) if request.scale is None else {}
    scale = best_scale(losses) if request.scale is None else request.scale
    undo = request.rank / request.alpha
    factors, sizes = dict(plain.factors), {}
    for module, (a, b) in found.items():
        weight_MN = _weight(material, module)
        made = instead(LoraFactors(a, scale * b), weight_MN, request.rank)
        sizes[module] = float((made.b @ made.a).norm()) / float(weight_MN.double().norm())
        factors[module] = LoraFactors(a=made.a.float(), b=(undo * made.b).float())
    adapter = write_start(
        folder,
        factors=factors,
        embeddings=plain.embeddings,
        rank=request.rank,
        alpha=request.alpha,
        tied_head=plain.tied_head,
        fan_in_fan_out=student.is_transposed(factors),
        added=found,
    )
    facts = {
        "relative_size": sizes,
        "energy": kept,
        "scale": scale,
        "answer_losses": {f"{size:.10g}": loss for size, loss in losses.items()},
        **material.fits(),
    }
    return TransportedUpdate(adapter, facts, tuple(m for m in factors if m not in found))


def _found(
    request: TransportRequest, known: TransportMethod, material: TransportMaterial
) -> tuple[dict[str, LoraFactors], dict[str, float]]:
    """The update of each module that gets one, and which share of it the rank keeps."""
    found, kept = {}, {}
    for module, update_MN in _by_module(known.update(material)):
        cut = _cut(update_MN, _weight(material, module), request, module)
        if cut is not None:
            found[module], kept[module] = cut
    if not found:
        raise ConfigError(
            f"{request.method} changes nothing: the update is zero for every matrix. A teacher "
            "that is the student itself has nothing to give, nor have LaTen's translators before "
            "they are trained (transport.neuron_rate, transport.neuron_steps)."
        )
    return found, kept


def _weight(material: TransportMaterial, module: str) -> Tensor:
    layer = material.student.get_submodule(module)
    weight_MN: Tensor = logical(layer.weight.detach(), layer).cpu()
    return weight_MN


def _losses(material: TransportMaterial, found: Mapping[str, LoraFactors]) -> dict[float, float]:
    """Loss of answers at each scale, on the half whose answers no update is made of."""
    samples = [text.students for text in material.fit if text.has_answer]
    here = {
        name: LoraFactors(*(part.to(material.student.device) for part in pair))
        for name, pair in found.items()
    }

    def measure() -> float:
        losses = [float(answer_loss(material.student, sample)) for sample in samples]
        return sum(losses) / len(losses)

    return at_scales(material.student, here, measure)


def _by_module(updates: Iterator[tuple[Match, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Put the roles of fused projections together; one module at a time where none is fused."""
    waiting: dict[str, list[tuple[Any, Tensor]]] = {}
    for match, update_MN in updates:
        if not match.student.is_fused:
            yield match.module, update_MN
        else:
            waiting.setdefault(match.module, []).append((match.student, update_MN))
    for module, parts in waiting.items():
        yield module, assemble(parts)


def _cut(
    update_MN: Tensor, weight_MN: Tensor, request: TransportRequest, module: str
) -> tuple[LoraFactors, float] | None:
    """The best of the adapter's rank, float64, and the share of it that is kept; None for zero."""
    if not bool(torch.isfinite(update_MN).all()):
        raise NumericsError(
            f"{module}: the change by {request.method} holds NaN or infinity. Check the "
            "teacher's weights, or set a ridge."
        )
    if update_MN.norm() <= _ROUNDING * weight_MN.norm():
        return None
    found = truncated_svd(update_MN, rank=request.rank)
    root_R = found.s_R.double().sqrt()
    pair = LoraFactors(a=root_R[:, None] * found.vh_RN.double(), b=found.u_MR.double() * root_R)
    return pair, found.energy
