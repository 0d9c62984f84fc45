"""What an update is asked to be made of, and the models and matrices that follow from it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paraknow_core.alignment.layers import choose_layers
from paraknow_core.alignment.matrices import VOCABULARY_ROLES, Match, match_matrices
from paraknow_core.alignment.tokens import TokenMatch
from paraknow_core.errors import ConfigError, DataError, ShapeError
from paraknow_core.lora.adapter import Adapter
from paraknow_core.lora.anchored_model import merge_into
from paraknow_core.lora.start_point import target_modules
from paraknow_core.models.architecture import Architecture
from paraknow_core.models.describe import Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.progress import Progress
from paraknow_core.signals.request import SharedText
from paraknow_core.transport.maps import check_enough
from paraknow_core.transport.material import (
    USUAL_OPTIONS,
    TransportMaterial,
    TransportOptions,
    shuffle_weights,
)
from paraknow_core.transport.teacher_base import same_sizes


@dataclass(frozen=True)
class TransportRequest:
    """Which update is made of what.

    Attributes:
        method: a key of ``TRANSPORTS``.
        teacher: its folder.
        base: folder of what it was tuned from; None where the method asks for none.
        teacher_adapter: in place of a base: what tuning added to the model in ``teacher``. The
            teacher is then that model with the adapter, and its base the model alone.
        student: its folder.
        texts: the seed texts, as both models read them.
        match: teacher's row of each of the student's tokens.
        roles: the matrices to change, in every layer.
        rank, alpha: of the adapter.
        scale: what the update is multiplied by; None: the one with the least loss of answers.
        layers: a key of ``LAYER_STRATEGIES`` that needs no sensitivity.
        shuffled: a control: whether the teacher's matrices have rows and columns permuted.
        drawn: a control: whether task vectors are drawn at random.
        instead: a control: a key of ``INSTEAD``.
        seed: of what is drawn.
        options: the methods' own settings.
        device: where the texts are run.
    """

    method: str
    teacher: Path
    student: Path
    texts: Sequence[SharedText]
    match: TokenMatch
    roles: Collection[Role]
    rank: int
    alpha: float
    base: Path | None = None
    teacher_adapter: Adapter | None = None
    scale: float | None = None
    layers: str = "uniform"
    shuffled: bool = False
    drawn: bool = False
    instead: str = ""
    seed: int = 0
    options: TransportOptions = USUAL_OPTIONS
    device: str = "cpu"

    @property
    def halves(self) -> tuple[tuple[SharedText, ...], tuple[SharedText, ...]]:
        """The texts that maps are fitted on, and the others."""
        fit, use = ([text for text in self.texts if text.half == half] for half in (0, 1))
        return tuple(fit), tuple(use)


def material_of(
    request: TransportRequest,
    *,
    needs_base: bool,
    needs_answers: bool,
    uses_maps: bool,
    progress: Progress,
) -> TransportMaterial:
    """Check everything that can be known without running a model, then load the models.

    Args:
        request: what is asked for.
        needs_base: whether the method asks for what the teacher was tuned from.
        needs_answers: whether it looks at labels.
        uses_maps: whether it fits maps between activations.
        progress: called with what is done, the total, and a message.

    Raises:
        ConfigError: if the base is missing, or of other sizes than the teacher.
        DataError: if there are no answers where they are needed.
        NumericsError: if maps have more unknowns than positions, and no ridge.
        ShapeError: if the student has more layers than the teacher, or an adapter is not the
            teacher's.
    """
    teacher, student = describe(request.teacher), describe(request.student)
    if needs_base:
        _check_base(request, teacher)
    if needs_answers:
        _check_answers(request)
    layers = choose_layers(
        request.layers,
        scores=[0.0] * teacher.num_layers,
        num_teacher=teacher.num_layers,
        num_student=student.num_layers,
        seed=request.seed,
    )
    roles = [str(role) for role in request.roles]
    matches = match_matrices(teacher, student, layers=layers, roles=roles)
    target_modules(student, request.roles)
    fit, use = request.halves
    if uses_maps:
        check_enough(
            request.options.maps,
            unknowns=max(_unknowns(match) for match in matches),
            positions=sum(int(text.counts_T.sum()) for text in fit),
            ridge=request.options.ridge,
        )
    base = request.base or request.teacher
    return TransportMaterial(
        teacher=_loaded(request, request.teacher, teacher, request.teacher_adapter),
        student=load_model(request.student, dtype=torch.float32, device=request.device),
        base=_loaded(request, base, teacher, None) if needs_base else None,
        models=(teacher, student),
        matches=tuple(matches),
        tokens=tuple(request.match.rows),
        fit=fit,
        use=use,
        options=request.options,
        seed=request.seed,
        progress=progress,
        drawn=request.drawn,
    )


def _check_base(request: TransportRequest, teacher: Architecture) -> None:
    if (request.base is None) == (request.teacher_adapter is None):
        raise ConfigError(
            f"{request.method} moves what tuning changed in the teacher: set either teacher_base, "
            "to the model that its tuning began with, or teacher_adapter, to the PEFT folder that "
            "was tuned on it."
        )
    if request.base is not None:
        same_sizes(request.teacher, request.base)
    if request.teacher_adapter is not None:
        _check_fit(request.teacher_adapter, teacher)


def _check_fit(adapter: Adapter, teacher: Architecture) -> None:
    shapes = {
        module: tuple(matrix.whole)
        for module, (matrix, *_) in teacher.modules(teacher.roles).items()
    }
    for module, (a_RN, b_MR) in adapter.factors.items():
        wanted = b_MR.shape[0], a_RN.shape[1]
        if shapes.get(module) != wanted:
            found = f"of shape {shapes[module]}" if module in shapes else "missing"
            raise ShapeError(
                f"teacher_adapter changes {module} with a matrix of shape {wanted}, but in the "
                f"teacher it is {found}. Give a PEFT folder that was tuned on this teacher."
            )


def _check_answers(request: TransportRequest) -> None:
    with_answer = [sum(text.has_answer for text in half) for half in request.halves]
    if not all(with_answer):
        raise DataError(
            f"{request.method} looks at answers (labels) in both halves of the seed texts; of "
            f"{len(request.texts)} texts {with_answer[0]} and {with_answer[1]} have one. Give seed "
            "samples with answers, or set transport.scale (and no transport.gradfix) for a method "
            "that then needs none: theseus or weight-transport."
        )


def _unknowns(match: Match) -> int:
    """How many unknowns for each output the maps of a matrix have at most, as regressions."""
    inputs = match.student.shape[1]
    return inputs if match.role in VOCABULARY_ROLES else max(inputs, match.teacher.shape[0])


def _loaded(
    request: TransportRequest, folder: Path, model: Architecture, adapter: Adapter | None
) -> Any:
    loaded = load_model(folder, dtype=torch.float32, device=request.device)
    if adapter is not None:
        merge_into(loaded, adapter)
    if request.shuffled:
        shuffle_weights(loaded, model, seed=request.seed)
    return loaded.requires_grad_(False)
