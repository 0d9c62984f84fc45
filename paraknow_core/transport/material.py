"""What an update is made of: two models, the matrices that go together, texts, and maps.

Shapes: M = out_features, N = in_features of the student's matrix; P, Q = of the teacher's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from paraknow_core.alignment.matrices import VOCABULARY_ROLES, Match
from paraknow_core.models.architecture import Architecture, Matrix
from paraknow_core.progress import Progress
from paraknow_core.seeding import derived_seed
from paraknow_core.signals.request import SharedText
from paraknow_core.transport.correspondence import CrossMoments, PlacePair, cross_moments
from paraknow_core.transport.maps import MAPS, FittedMap, agreement
from paraknow_core.transport.places import column_place, row_place, set_weight, weight_of


@dataclass(frozen=True)
class TransportOptions:
    """The methods' own settings.

    Attributes:
        maps: a key of ``MAPS``: how activations of teacher and student are brought together.
        ridge: λ of the ridge maps over the mean of the diagonal of XᵀX; 0 for none.
        gradfix: whether a task vector keeps only the entries that lower the student's loss.
        neuron_share: LaTen: how many neurons of a layer are translated, over the student's width.
        neuron_rate: LaTen: greatest learning rate of the translators.
        neuron_steps: LaTen: steps of training them, of 15 texts each.
        neuron_penalty: LaTen: weight of the update's mean square in the loss.
    """

    maps: str = "procrustes"
    ridge: float = 1e-2
    gradfix: bool = True
    neuron_share: float = 0.1
    neuron_rate: float = 3e-5
    neuron_steps: int = 20
    neuron_penalty: float = 1000.0


USUAL_OPTIONS = TransportOptions()


@dataclass(frozen=True)
class TransportMaterial:
    """The material of one update.

    The texts come in two halves. Maps and places of neurons are found on one, and what is made of
    them is chosen or judged on the other: a map that is used on what it was fitted on only smooths
    the student.

    Attributes:
        teacher: the model that something is taken of, float32, in evaluation mode.
        student: the same; its weights are the unmodified ones.
        base: what the teacher was tuned from; None where no method asks for it.
        models: the architectures of teacher and student.
        matches: which matrix of the teacher goes with which of the student.
        tokens: teacher's row of each token of the student; -1 for none.
        fit, use: the halves of the seed texts, as both models read them.
        options: the methods' own settings.
        seed: of what a method draws.
        progress: called with what is done, the total, and a message.
        drawn: a control: whether task vectors are drawn at random instead, as large.
    """

    teacher: Any
    student: Any
    base: Any
    models: tuple[Architecture, Architecture]
    matches: tuple[Match, ...]
    tokens: tuple[int, ...]
    fit: tuple[SharedText, ...]
    use: tuple[SharedText, ...]
    options: TransportOptions
    seed: int
    progress: Progress
    drawn: bool = False
    _fitted: dict[tuple[PlacePair, str], FittedMap] = field(default_factory=dict)

    def carried(self, match: Match, theirs_PQ: Tensor) -> Tensor:
        """Carry a matrix of the teacher's shape over to the student's: ``M_outᵀ X M_in``.

        Rows that are tokens go by token, and those without a partner get zeros.

        Args:
            match: which two matrices it is about.
            theirs_PQ: float64, in the shape of the teacher's matrix.

        Returns:
            M × N, float64.
        """
        columns_QN = self._map(self._columns(match), "in").map_PS
        if match.role in VOCABULARY_ROLES:
            rows = torch.tensor(self.tokens)
            known_M = rows >= 0
            taken_MQ = theirs_PQ[rows.clamp(min=0)] * known_M[:, None]
            return taken_MQ @ columns_QN
        rows_PM = self._map(self._rows(match), "out").map_PS
        return rows_PM.T @ (theirs_PQ @ columns_QN)

    def has_partner(self, match: Match) -> Tensor:
        """Which rows of the student's matrix the teacher has something for: M booleans."""
        if match.role in VOCABULARY_ROLES:
            return torch.tensor(self.tokens) >= 0
        return torch.ones(match.student.shape[0], dtype=torch.bool)

    def fits(self) -> Mapping[str, Any]:
        """Say how well the maps that were used do on the half that they were not fitted on."""
        used = [(fitted, self._held_out[pair]) for (pair, _), fitted in self._fitted.items()]
        if not used:
            return {}
        cosines = [agreement(fitted, moments) for fitted, moments in used]
        short = [fitted for fitted, _ in used if fitted.is_short]
        return {
            "positions": used[0][0].positions,
            "most_unknowns": max(fitted.unknowns for fitted, _ in used),
            "maps": len(used),
            "maps_with_more_unknowns_than_positions": len(short),
            "agreement_least": min(cosines),
            "agreement_mean": sum(cosines) / len(cosines),
        }

    def _map(self, pair: PlacePair, side: str) -> FittedMap:
        kind = MAPS.choose(self.options.maps)
        key = pair, side if kind.is_regression else ""
        if key not in self._fitted:
            moments = self._moments[pair]
            self._fitted[key] = kind.fit(moments, side=side, ridge=self.options.ridge)
        return self._fitted[key]

    @cached_property
    def _moments(self) -> Mapping[PlacePair, CrossMoments]:
        own = MAPS.choose(self.options.maps).is_regression
        return self._gathered(self.fit, own=own)

    @cached_property
    def _held_out(self) -> Mapping[PlacePair, CrossMoments]:
        return self._gathered(self.use, own=False)

    def _gathered(
        self, texts: Sequence[SharedText], *, own: bool
    ) -> Mapping[PlacePair, CrossMoments]:
        pairs = [self._columns(match) for match in self.matches]
        pairs += [self._rows(m) for m in self.matches if m.role not in VOCABULARY_ROLES]
        return cross_moments(
            self.teacher, self.student, texts, pairs, own=own, progress=self.progress
        )

    def _columns(self, match: Match) -> PlacePair:
        teacher, student = self.models
        return (
            column_place(teacher, match.teacher, match.role),
            column_place(student, match.student, match.role),
        )

    @staticmethod
    def _rows(match: Match) -> PlacePair:
        return row_place(match.teacher), row_place(match.student)


def shuffle_weights(model: Any, architecture: Architecture, *, seed: int) -> None:
    """Permute rows and columns of every matrix of a loaded model, in place.

    Values keep their distribution and their spectrum, and lose their place. Two models of one
    architecture are permuted alike by one seed.

    Args:
        model: of Transformers.
        architecture: its own.
        seed: of the permutations.
    """
    for matrix in architecture.matrices:
        rows_P, columns_Q = _permutations(matrix, seed)
        set_weight(model, matrix, weight_of(model, matrix)[rows_P][:, columns_Q])


def _permutations(matrix: Matrix, seed: int) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(derived_seed(seed, f"{matrix.name} {matrix.role}"))
    rows, columns = matrix.shape
    return torch.randperm(rows, generator=source), torch.randperm(columns, generator=source)
