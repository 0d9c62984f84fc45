"""LaTen: a teacher's most telling neurons, translated, on top of the student's.

LaTen (arXiv 2505.14436): neurons are located by how much they raise the log-probability of the
answer (logit lens), and a small net for each matrix translates the teacher's values. What it adds
is an ordinary change of weights, so it is there after saving and loading.

Shapes: K = neurons of a matrix that are translated, D = the model's width, S = the student's,
P = the teacher's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn

from paraknow_core.alignment.matrices import Match
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.architecture import Matrix
from paraknow_core.models.families import Role
from paraknow_core.seeding import derived_seed
from paraknow_core.sensitivity.accumulate import answer_loss
from paraknow_core.transport.logit_lens import located
from paraknow_core.transport.material import TransportMaterial
from paraknow_core.transport.places import role_rows, weight_of

NEURON_ROLES = (Role.V, Role.O, Role.UP, Role.DOWN)
_IN_ROWS = (Role.V, Role.UP)
"""Roles whose rows are neurons; of the others the columns are."""

_BATCH = 15
_START = 1e-5
"""Standard deviation of the translators' first weights."""


class Translator(nn.Module):
    """A teacher's values as a student's: two linear maps, a ReLU between them, no bias."""

    def __init__(self, teacher_width: int, student_width: int, source: torch.Generator) -> None:
        """Draw the first weights, which are as good as zero."""
        super().__init__()
        self.inner = nn.Parameter(_START * _normal(teacher_width, teacher_width, source))
        self.outer = nn.Parameter(_START * _normal(student_width, teacher_width, source))

    def forward(self, values_KP: Tensor) -> Tensor:
        """Translate K × P to K × S."""
        return torch.relu(values_KP @ self.inner.T) @ self.outer.T


def _normal(rows: int, columns: int, source: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=source)


@dataclass(frozen=True)
class _Slot:
    """Where in the student the translated neurons of one matrix go.

    Attributes:
        match: the matrix and the teacher's.
        parameter: name of the student's weight.
        values_KP: the teacher's neurons, the most telling first.
        at_K: places of the student's neurons that they are added to, in the role's own matrix.
        net: their translator.
    """

    match: Match
    parameter: str
    values_KP: Tensor  # noqa: N815 - shape suffixes
    at_K: Tensor  # noqa: N815
    net: Translator

    def change(self) -> Tensor:
        """What is added to the role's matrix, M × N."""
        values_KS: Tensor = self.net(self.values_KP)
        rows, columns = self.match.student.shape
        if self.match.role in _IN_ROWS:
            return values_KS.new_zeros(rows, columns).index_add(0, self.at_K, values_KS)
        return values_KS.new_zeros(rows, columns).index_add(1, self.at_K, values_KS.T)


def laten(material: TransportMaterial) -> Iterator[tuple[Match, Tensor]]:
    """Translate the teacher's most telling neurons, and add them to the student's.

    Neurons are located on one half of the seed samples, translators trained on the other, with
    AdamW (weight decay 0.05, betas 0.9 and 0.95) and a one-cycle rate, on the answer loss plus the
    penalty on the update's mean square. The first weights are so small that the update is as good
    as zero until they are trained.

    Args:
        material: matches of other roles than v, o, up and down get no update.

    Yields:
        Match and update, M × N in float64, zero outside the located neurons.
    """
    slots = _slots(material)
    _train(slots, material)
    with torch.no_grad():
        for slot in slots:
            yield slot.match, slot.change().double().cpu()


def _slots(material: TransportMaterial) -> list[_Slot]:
    teacher, student = material.models
    matches = [match for match in material.matches if match.role in NEURON_ROLES]
    pairs = {(m.teacher_layer, m.student_layer) for m in matches}
    texts = [text for text in material.fit if text.has_answer]
    reads = [text.teachers for text in texts], [text.students for text in texts]
    theirs = located(material.teacher, teacher, reads[0], sorted({t for t, _ in pairs}))
    ours = located(material.student, student, reads[1], sorted({s for _, s in pairs}))
    source = torch.Generator().manual_seed(derived_seed(material.seed, "translators"))
    parameters = {tensor.name: tensor.parameter for tensor in student.tensors}
    wanted = max(1, round(material.options.neuron_share * student.hidden_size))
    found = []
    for match in matches:
        scores = theirs[match.teacher_layer, match.role], ours[match.student_layer, match.role]
        count = min(wanted, *(len(score) for score in scores))
        from_K, at_K = (score.topk(count).indices for score in scores)
        net = Translator(teacher.hidden_size, student.hidden_size, source)
        found.append(
            _Slot(
                match,
                parameters[match.student.name],
                _values(material.teacher, match.teacher, from_K).to(material.student.device),
                at_K.to(material.student.device),
                net.to(material.student.device),
            )
        )
    return found


def _values(teacher: Any, matrix: Matrix, at_K: Tensor) -> Tensor:
    weight = weight_of(teacher, matrix)
    values_KP = weight[at_K] if matrix.role in _IN_ROWS else weight[:, at_K].T
    return values_KP.float()


def _train(slots: Sequence[_Slot], material: TransportMaterial) -> None:
    options = material.options
    weights = [weight for slot in slots for weight in slot.net.parameters()]
    optimizer = torch.optim.AdamW(
        weights, lr=options.neuron_rate, weight_decay=0.05, betas=(0.9, 0.95)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, options.neuron_rate, total_steps=max(options.neuron_steps, 2)
    )
    samples = cycle([text.students for text in material.use if text.has_answer])
    material.student.requires_grad_(False)
    for step in range(options.neuron_steps):
        material.progress(step, options.neuron_steps, "translators")
        batch = tuple(islice(samples, _BATCH))
        with torch.enable_grad():
            loss = _loss(slots, material, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _loss(
    slots: Sequence[_Slot], material: TransportMaterial, batch: Sequence[TokenisedExample]
) -> Tensor:
    changes = [slot.change() for slot in slots]
    changed = _Changed(material.student, slots, changes)
    answers = torch.stack([answer_loss(changed, sample) for sample in batch]).mean()  # type: ignore[arg-type]
    squares = torch.stack([change.square().mean() for change in changes]).mean()
    return answers + material.options.neuron_penalty * squares


class _Changed:
    """The student with changes to its weights that gradients go through."""

    def __init__(self, student: Any, slots: Sequence[_Slot], changes: Sequence[Tensor]) -> None:
        self._student = student
        self.device = student.device
        weights = dict(student.named_parameters())
        self._weights: dict[str, Tensor] = {}
        for slot, change in zip(slots, changes, strict=True):
            matrix = slot.match.student
            old: Any = self._weights.get(slot.parameter, weights[slot.parameter])
            rows = role_rows(matrix).to(change.device)
            self._weights[slot.parameter] = old.index_add(
                1 if matrix.transposed else 0, rows, change.T if matrix.transposed else change
            )

    def __call__(self, **given: Any) -> Any:
        return torch.func.functional_call(self._student, self._weights, (), given)
