"""How large an update should be: measured at several scales on texts it was not made of."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from paraknow_core.lora.adapter import LoraFactors
from paraknow_core.models.modules import logical

SCALES = tuple(2.0**power for power in range(-10, 6))
"""What a scale is chosen from.

The gradient of every layer at once overshoots: on a pair of trained models the best scale of the
whitened distillation gradient was 1/256, and from 1/32 on it was worse than no update.
"""


@torch.no_grad()
def at_scales(
    student: Any, update: Mapping[str, LoraFactors], measure: Callable[[], float]
) -> dict[float, float]:
    """Measure a student with an update, at every scale of ``SCALES`` and at 0.

    The student's weights are changed in place, and put back.

    Args:
        student: of Transformers.
        update: by module; ``b @ a`` is the change at a scale of 1.
        measure: what is to be small, of the student as it then is.

    Returns:
        Scale → what was measured.
    """
    kept = {name: student.get_submodule(name).weight.clone() for name in update}
    found = {}
    for scale in (0.0, *SCALES):
        for name, (a, b) in update.items():
            layer = student.get_submodule(name)
            delta_MN = (scale * (b @ a)).to(layer.weight)
            layer.weight.copy_(kept[name])
            logical(layer.weight, layer).add_(delta_MN)
        found[scale] = measure()
    for name, weight in kept.items():
        student.get_submodule(name).weight.copy_(weight)
    return found


def best_scale(measured: Mapping[float, float]) -> float:
    """The scale of ``SCALES`` with the least of what was measured, the smaller of two equals."""
    return min(SCALES, key=measured.__getitem__)
