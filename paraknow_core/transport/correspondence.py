"""What teacher and student make of the same texts, summed up: second moments across the two.

Only cross-products are kept, in float64, whatever the number of texts. Shapes: T = tokens,
P = width of a place in the teacher, S = width of the student's.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paraknow_core.progress import Progress, no_progress
from paraknow_core.signals.activations import ActivationPlace, kept_activations
from paraknow_core.signals.request import SharedText

PlacePair = tuple[ActivationPlace, ActivationPlace]
"""A place of the teacher and the student's that goes with it."""


@dataclass(frozen=True)
class CrossMoments:
    """Second moments of one pair of places over some texts, float64.

    Attributes:
        teacher_PP: X_TᵀX_T; None where nobody asked for it.
        cross_PS: X_TᵀX_S.
        student_SS: X_SᵀX_S; None where nobody asked for it.
        sizes: sums of squares of X_T and X_S.
        positions: tokens in all.
    """

    teacher_PP: Tensor | None  # noqa: N815 - shape suffixes
    cross_PS: Tensor  # noqa: N815
    student_SS: Tensor | None  # noqa: N815
    sizes: tuple[float, float]
    positions: int


class _Sums:
    """The moments of one pair of places while texts go by."""

    def __init__(self, *, own: bool) -> None:
        self.own = own
        self.sums: list[Tensor] = []
        self.sizes = [0.0, 0.0]
        self.positions = 0

    def add(self, teacher_TP: Tensor, student_TS: Tensor) -> None:
        """Add one text's activations, of which both models have as many tokens."""
        x_TP, y_TS = teacher_TP.double().cpu(), student_TS.double().cpu()
        parts = [x_TP.T @ y_TS]
        if self.own:
            parts += [x_TP.T @ x_TP, y_TS.T @ y_TS]
        self.sums = [a + b for a, b in zip(self.sums, parts, strict=True)] if self.sums else parts
        self.sizes = [
            size + float(x.square().sum()) for size, x in zip(self.sizes, (x_TP, y_TS), strict=True)
        ]
        self.positions += len(x_TP)

    def result(self) -> CrossMoments:
        """What was summed up."""
        cross, *own = self.sums
        teacher, student = own or (None, None)
        return CrossMoments(teacher, cross, student, (*self.sizes,), self.positions)  # type: ignore[arg-type]


def cross_moments(
    teacher: Any,
    student: Any,
    texts: Sequence[SharedText],
    pairs: Iterable[PlacePair],
    *,
    own: bool,
    progress: Progress = no_progress,
) -> Mapping[PlacePair, CrossMoments]:
    """Run two models over the same texts, and sum up what they make of each position that counts.

    Args:
        teacher: of Transformers, in evaluation mode.
        student: the same.
        texts: at least one, as both models read it.
        pairs: the places to compare.
        own: whether the moments of each model alone are wanted too.
        progress: called before each text.
    """
    wanted = tuple(dict.fromkeys(pairs))
    sums = {pair: _Sums(own=own) for pair in wanted}
    with torch.no_grad(), ExitStack() as stack:
        theirs = kept_activations(teacher, {place: place for place, _ in wanted}, stack)
        ours = kept_activations(student, {place: place for _, place in wanted}, stack)
        for done, text in enumerate(texts):
            progress(done, len(texts), "activations")
            for model, ids_T in ((teacher, text.teacher_T), (student, text.student_T)):
                model(input_ids=ids_T[None].to(model.device), use_cache=False)
            for (their, our), total in sums.items():
                total.add(theirs[their][text.counts_T], ours[our][text.counts_T])
    return {pair: total.result() for pair, total in sums.items()}
