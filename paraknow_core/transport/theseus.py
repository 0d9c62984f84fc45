"""Theseus with GradFix: what tuning changed in a teacher, carried over to a student.

Theseus (arXiv 2602.12952) carries a task vector over by orthogonal maps between activations,
``τ_S = T_outᵀ τ_T T_in``; GradFix (arXiv 2510.09658) keeps of it the entries whose sign is that of
a step down the student's own loss. Shapes: M = out_features, N = in_features of the student.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from paraknow_core.alignment.matrices import Match
from paraknow_core.models.architecture import Architecture
from paraknow_core.models.matrices import take
from paraknow_core.sensitivity.accumulate import answer_loss
from paraknow_core.transport.material import TransportMaterial
from paraknow_core.transport.task_vector import TaskVectors


def theseus(material: TransportMaterial) -> Iterator[tuple[Match, Tensor]]:
    """Carry the teacher's task vectors over, a matrix at a time.

    Args:
        material: with the teacher's base.

    Yields:
        Match and update, M × N in float64.

    Raises:
        ConfigError: if the base is not the teacher's, or is the teacher itself.
    """
    vectors = TaskVectors(
        material.teacher,
        material.base,
        material.models[0],
        drawn_by=material.seed if material.drawn else None,
    )
    gradients = _gradients(material) if material.options.gradfix else {}
    for match in material.matches:
        carried_MN = material.carried(match, vectors.of(match.teacher))
        if material.options.gradfix:
            carried_MN = gradfix(carried_MN, take(gradients[match.student.name], match.student))
        yield match, carried_MN


def gradfix(update_MN: Tensor, gradient_MN: Tensor) -> Tensor:
    """Keep the entries of an update that go down the student's loss (arXiv 2510.09658).

    Args:
        update_MN: the update.
        gradient_MN: of the loss, at the student's own weights.

    Returns:
        ``update_MN`` with zeros where its sign is not that of ``−gradient_MN``.
    """
    return update_MN * (update_MN * gradient_MN < 0)


def _gradients(material: TransportMaterial) -> dict[str, Tensor]:
    """The gradient of the mean answer loss, on the half that maps were not fitted on.

    Returns:
        Name of the stored tensor → its gradient, as the tensor is stored.
    """
    names = _parameters(material.models[1], {m.student.name for m in material.matches})
    weights = dict(material.student.named_parameters())
    material.student.requires_grad_(False)
    for parameter in names.values():
        weights[parameter].requires_grad_(True)
    texts = [text for text in material.use if text.has_answer]
    with torch.enable_grad():
        for done, text in enumerate(texts):
            material.progress(done, len(texts), "gradient")
            loss = answer_loss(material.student, text.students) / len(texts)
            loss.backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, parameter in names.items():
        gradient = weights[parameter].grad
        found[name] = torch.zeros_like(weights[parameter]) if gradient is None else gradient
        found[name] = found[name].double().cpu()
        weights[parameter].grad = None
    material.student.requires_grad_(False)
    return found


def _parameters(student: Architecture, names: set[str]) -> dict[str, str]:
    """Name of the stored tensor → of the model's parameter."""
    return {t.name: t.parameter for t in student.tensors if t.name in names}
