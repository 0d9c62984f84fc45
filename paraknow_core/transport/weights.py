"""Weight transport: a teacher's matrices as the student's activations see them.

Shapes: M = out_features, N = in_features of the student's matrix.
"""

from collections.abc import Iterator

from torch import Tensor

from paraknow_core.alignment.matrices import Match
from paraknow_core.transport.material import TransportMaterial
from paraknow_core.transport.places import weight_of


def weight_transport(material: TransportMaterial) -> Iterator[tuple[Match, Tensor]]:
    """Move each of the student's matrices towards the teacher's: ``M_outᵀ W_T M_in − W_S``.

    With a scale of α the student's matrix becomes ``(1 − α) W_S + α Ŵ``. Rows of tokens that the
    teacher does not have stay as they are.

    Yields:
        Match and update, M × N in float64.
    """
    for match in material.matches:
        carried_MN = material.carried(match, weight_of(material.teacher, match.teacher))
        apart_MN = carried_MN - weight_of(material.student, match.student)
        yield match, apart_MN * material.has_partner(match)[:, None]
