"""Maps from a teacher's activations to a student's, fitted on what both make of the same texts.

Shapes: P = width of a place in the teacher, S = width of the student's. A map is P × S, float64.
For outputs it is M with Y_T M ≈ Y_S; for inputs with X_S Mᵀ ≈ X_T. So ``M_outᵀ W_T M_in`` takes
the student's inputs, asks the teacher's matrix, and answers in the student's outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from paraknow_core.errors import ConfigError, NumericsError
from paraknow_core.registry import Registry
from paraknow_core.signals.reduced_rank import ridge_map
from paraknow_core.transport.correspondence import CrossMoments

Side = Literal["in", "out"]

_RANK_LIMIT = 1e-5
"""Singular values below this share of the greatest are rounding, as activations are float32.

The outputs of a matrix that is taller than wide, such as ``up``, fill as many directions as it has
inputs; the map of the others would be noise of full size.
"""


@dataclass(frozen=True)
class FittedMap:
    """A map between activations, and how much of it the texts could say.

    Attributes:
        map_PS: P × S, float64.
        positions: tokens that it was fitted on.
        unknowns: directions of the place that it must map: as many tokens are needed at least.
    """

    map_PS: Tensor  # noqa: N815 - shape suffixes
    positions: int
    unknowns: int

    @property
    def is_short(self) -> bool:
        """Whether there were more unknowns than positions."""
        return self.positions < self.unknowns


def procrustes(moments: CrossMoments, *, side: Side, ridge: float) -> FittedMap:  # noqa: ARG001
    """The orthogonal map that brings the two closest: UVᵀ of X_TᵀX_S (Schönemann, 1966).

    Theseus (arXiv 2602.12952) takes it for inputs and outputs alike. Directions that the texts say
    nothing of are mapped to zero: an update does nothing there.
    """
    cross_PS = moments.cross_PS
    u_PK, s_K, vh_KS = torch.linalg.svd(cross_PS, full_matrices=False)
    known = int((s_K > _RANK_LIMIT * s_K[0]).sum()) if bool(s_K[0] > 0) else 0
    return FittedMap(u_PK[:, :known] @ vh_KS[:known], moments.positions, min(cross_PS.shape))


def ridge(moments: CrossMoments, *, side: Side, ridge: float) -> FittedMap:
    """The linear map of least squares with a ridge.

    Args:
        moments: with the moments of each model alone.
        side: ``out`` predicts the student's activations from the teacher's, ``in`` the teacher's
            from the student's.
        ridge: λ over the mean of the diagonal of XᵀX, at least 0.

    Raises:
        NumericsError: if there is no ridge, and fewer positions than unknowns, or positions that
            depend on each other.
    """
    is_out = side == "out"
    gram = moments.teacher_PP if is_out else moments.student_SS
    cross = moments.cross_PS if is_out else moments.cross_PS.T
    if gram is None:
        raise ConfigError("A ridge map needs the moments of each model alone; gather them too.")
    positions = moments.positions
    what = "the map of outputs" if is_out else "the map of inputs"
    solved = ridge_map(gram, cross, positions=positions, ridge=ridge, what=what)
    return FittedMap(solved if is_out else solved.T, positions, len(gram))


MapRule = Callable[..., FittedMap]
"""``(moments, *, side, ridge)`` → the map."""


@dataclass(frozen=True)
class MapKind:
    """A way to fit maps.

    Attributes:
        fit: the rule.
        is_regression: whether it needs the moments of each model alone, and a ridge where there
            are more unknowns than positions.
    """

    fit: MapRule
    is_regression: bool = False


MAPS: Registry[MapKind] = Registry(
    "map between activations",
    {"procrustes": MapKind(procrustes), "ridge": MapKind(ridge, is_regression=True)},
)
"""Every way to fit a map, by name."""


def check_enough(maps: str, *, unknowns: int, positions: int, ridge: float) -> None:
    """Refuse a regression that the texts cannot decide, before anything is run.

    Args:
        maps: a key of ``MAPS``.
        unknowns: of each output, at most.
        positions: that the maps will be fitted on.
        ridge: as of ``ridge``.

    Raises:
        NumericsError: states both numbers.
    """
    if MAPS.choose(maps).is_regression and ridge == 0 and positions < unknowns:
        raise NumericsError(
            f"A map without a ridge has {unknowns} unknowns for each output, and the seed texts "
            f"have {positions} positions to fit it on. Set transport.ridge above 0, or give more "
            "seed samples (data.sizes.seeds)."
        )


def agreement(fitted: FittedMap, moments: CrossMoments) -> float:
    """The cosine of mapped and actual activations, on texts that the map was not fitted on.

    Args:
        fitted: a map of either side.
        moments: of those other texts.

    Returns:
        ⟨X_T M, X_S⟩ over the sizes of X_T and X_S; −1..1 for an orthogonal map.
    """
    size = (moments.sizes[0] * moments.sizes[1]) ** 0.5
    return float((fitted.map_PS * moments.cross_PS).sum()) / size if size else 0.0
