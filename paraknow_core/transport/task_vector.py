"""What tuning changed in a teacher: its weights minus those of the base it was tuned from.

Shapes: M = out_features, N = in_features.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from paraknow_core.errors import ConfigError
from paraknow_core.models.architecture import Architecture, Matrix
from paraknow_core.seeding import derived_seed
from paraknow_core.transport.places import weight_of

UNRELATED = 0.95
"""Least distance that is taken for that of two models of which neither comes from the other.

The distance is ``‖a − b‖ / √(‖a‖² + ‖b‖²)``: 0 for equal weights, 1 for weights that have nothing
to do with each other, whatever their sizes.
"""


class TaskVectors:
    """The task vectors of a teacher's matrices, τ = tuned − base."""

    def __init__(
        self, tuned: Any, base: Any, architecture: Architecture, *, drawn_by: int | None = None
    ) -> None:
        """Check that one was tuned from the other.

        Args:
            tuned: the teacher, loaded.
            base: what it was tuned from, loaded.
            architecture: of both.
            drawn_by: a control: the seed of random vectors that stand for those of tuning.

        Raises:
            ConfigError: if they are the same, or neither comes from the other.
        """
        self._tuned, self._base, self._drawn_by = tuned, base, drawn_by
        self.distance = _distance(self._weights(architecture))
        if self.distance == 0:
            raise ConfigError(
                "teacher and teacher_base have the same weights (or teacher_adapter's product is "
                "zero): there is nothing to move. Give the model that the teacher's tuning began "
                "with."
            )
        if self.distance > UNRELATED:
            raise ConfigError(
                f"teacher and teacher_base lie {self.distance:.3f} apart, where 0 is equal and 1 "
                f"is what unrelated models have; allowed is up to {UNRELATED}. Give the model "
                "that the teacher's tuning began with."
            )

    def of(self, matrix: Matrix) -> Tensor:
        """The task vector of one of the teacher's matrices, M × N in float64."""
        vector_MN = weight_of(self._tuned, matrix) - weight_of(self._base, matrix)
        if self._drawn_by is None:
            return vector_MN
        source = torch.Generator().manual_seed(
            derived_seed(self._drawn_by, f"τ {matrix.name} {matrix.role}")
        )
        drawn_MN = torch.randn(vector_MN.shape, generator=source, dtype=vector_MN.dtype)
        size = float(vector_MN.norm() / drawn_MN.norm())
        return size * drawn_MN

    def _weights(self, architecture: Architecture) -> Iterator[tuple[Tensor, Tensor]]:
        for matrix in architecture.matrices:
            yield weight_of(self._tuned, matrix), weight_of(self._base, matrix)


def _distance(pairs: Iterator[tuple[Tensor, Tensor]]) -> float:
    apart = whole = 0.0
    for tuned, base in pairs:
        apart += float((tuned - base).square().sum())
        whole += float(tuned.square().sum() + base.square().sum())
    return (apart / whole) ** 0.5 if whole else 0.0
