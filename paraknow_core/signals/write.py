"""An update out of a teacher's signals: made, sized, and written as a start point that is added."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paraknow_core.errors import RankError
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.lora.anchored_model import bare_adapter
from paraknow_core.lora.start_point import target_modules, write_start
from paraknow_core.models.describe import Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.registry import Registry
from paraknow_core.seeding import random_state_kept
from paraknow_core.signals.embedding_rows import embedding_rows
from paraknow_core.signals.head_regression import head_regression
from paraknow_core.signals.parts import TeacherSays, divergence
from paraknow_core.signals.request import SignalRequest, Signals
from paraknow_core.signals.residual_regression import residual_regression
from paraknow_core.signals.scales import at_scales, best_scale
from paraknow_core.signals.whitened_distillation import whitened_distillation


@dataclass(frozen=True)
class Signal:
    """How an update is made.

    Attributes:
        find: from a request to the modules' changes.
        sized_by_outputs: whether the method looks at the teacher's outputs anyway, so that its
            scale may be chosen by them.
    """

    find: Callable[[SignalRequest], Signals]
    sized_by_outputs: bool = False


SIGNALS: Registry[Signal] = Registry(
    "signal",
    {
        "whitened-distillation": Signal(whitened_distillation, sized_by_outputs=True),
        "residual-regression": Signal(residual_regression),
        "head-regression": Signal(head_regression, sized_by_outputs=True),
        "embedding-rows": Signal(embedding_rows),
    },
)
"""Every signal by the name of its method."""


@dataclass(frozen=True)
class SignalStart:
    """An update, and what is told of it.

    Attributes:
        adapter: as it is in the folder.
        plain: modules that the method has no update for; they start as plain LoRA.
        scale: that the update was multiplied by.
        divergences: scale → KL to the teacher in nats a position, on the half of the texts that the
            update was not made of; 0 is the untouched student. Empty where no scale was chosen.
    """

    adapter: Adapter
    plain: tuple[str, ...]
    scale: float
    divergences: Mapping[float, float]


def modules_with_roles(student_folder: Path, roles: Collection[Role]) -> dict[str, Role]:
    """Name the student's modules to change; a fused one has the role of its first part."""
    student = describe(student_folder)
    parts = student.modules(roles)
    return {name: parts[name][0].role for name in target_modules(student, roles)}


@random_state_kept()
def signal_start(
    request: SignalRequest,
    folder: Path,
    *,
    method: str,
    alpha: float,
    scale: float | None,
    seed: int = 0,
    as_large_as: Adapter | None = None,
) -> SignalStart:
    """Write an update, as a start point whose product is added to the student.

    Args:
        request: what it is made from.
        folder: is made if need be.
        method: a key of ``SIGNALS``.
        alpha: above 0; PEFT's scale is ``alpha / rank``, which the factors undo.
        scale: of the whole update; None: the one of ``SCALES`` with the least KL to the teacher on
            texts that the update was not made of, where the method looks at outputs, else 1.
        seed: of plain LoRA's start, for modules that the method has no update for.
        as_large_as: of a control: another update, whose Frobenius norm each module's gets, in place
            of a scale. All else is made as that one was, the halves of the texts too.

    Returns:
        What was written. With a chosen scale the update is made of the first half of the texts.

    Raises:
        RankError: if the rank is above the smallest dimension of a matrix.
        NumericsError, ArchitectureError, ShapeError: as the method.
    """
    signal = SIGNALS.choose(method)
    _check_rank(request)
    told: dict[float, float] = {}
    if scale is None and signal.sized_by_outputs:
        whole = request.texts
        request.texts = [text for text in whole if text.half == 0]
        found = signal.find(request)
        if as_large_as is None:
            request.texts = [text for text in whole if text.half == 1]
            told = divergences(request, found)
            scale = best_scale(told)
        request.texts = whole
    else:
        found = signal.find(request)
    size = 1.0 if scale is None or as_large_as is not None else scale
    sizes = dict.fromkeys(found, size) if as_large_as is None else _sizes(found, as_large_as)
    factors = {
        name: LoraFactors(
            found[name].a.float().contiguous(),
            (times * request.rank / alpha * found[name].b).float().contiguous(),
        )
        for name, times in sizes.items()
    }
    plain = tuple(name for name in request.modules if name not in factors)
    ours = request.student
    embedding = ours.module_of(Role.EMBED)
    tied = ours.tied and embedding in request.modules
    adapter = write_start(
        folder,
        factors=factors | _plain(request, plain, alpha=alpha, seed=seed),
        embeddings=[embedding] if embedding in request.modules else [],
        rank=request.rank,
        alpha=alpha,
        tied_head=ours.module_of(Role.HEAD) if tied else None,
        fan_in_fan_out=ours.is_transposed(request.modules),
        added=factors,
    )
    return SignalStart(adapter, plain, size, told)


def _sizes(found: Signals, other: Adapter) -> dict[str, float]:
    """By what each module's update is multiplied to be as large as another's; both must have it."""
    return {
        name: other.scale * _norm(other.factors[name]) / _norm(factors)
        for name, factors in found.items()
        if name in other.added
    }


def _norm(factors: LoraFactors) -> float:
    """‖BA‖ = √(Σ (BᵀB) ∘ (AAᵀ)), the product never being formed."""
    a, b = (factor.double() for factor in factors)
    return float(((b.T @ b) * (a @ a.T)).sum().clamp(min=0).sqrt())


@torch.no_grad()
def divergences(request: SignalRequest, update: Signals) -> dict[float, float]:
    """Measure the KL to the teacher of the student with an update, at every scale and at 0.

    The student's weights are changed in place, and put back.

    Returns:
        Scale → KL(p_T ‖ p_S) in nats, a mean over the positions that count.
    """
    student = request.model(request.student_folder)
    theirs = [(text, TeacherSays(request, read, order_T)) for text, read, order_T in request.each()]
    positions = sum(int(text.counts_T.sum()) for text, _ in theirs)

    def measure() -> float:
        total = sum(float(divergence(request, text, each).detach()) for text, each in theirs)
        return total / max(1, positions)

    return at_scales(student, update, measure)


def _plain(
    request: SignalRequest, modules: Collection[str], *, alpha: float, seed: int
) -> dict[str, Any]:
    if not modules:
        return {}
    ours = request.student
    tied = ours.tied and ours.module_of(Role.EMBED) in modules
    torch.manual_seed(seed)
    drawn = bare_adapter(
        load_model(request.student_folder, dtype=torch.float32),
        modules=sorted(modules),
        rank=request.rank,
        alpha=alpha,
        dropout=0.0,
        tied_head=ours.module_of(Role.HEAD) if tied else None,
        base_model=None,
    )
    return dict(drawn.factors)


def _check_rank(request: SignalRequest) -> None:
    for name, (matrix, *_) in request.student.modules(set(request.modules.values())).items():
        if name in request.modules and not 1 <= request.rank <= min(matrix.whole):
            raise RankError(
                f"Rank {request.rank} was asked for, but {name} of shape {matrix.whole} allows "
                f"1..{min(matrix.whole)}. Lower the rank, or leave its role out."
            )
