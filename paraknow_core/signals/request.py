"""What a signal is made from: two models, texts that both read, and which tokens they share."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.alignment.tokens import TokenMatch
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import DataError
from paraknow_core.lora.adapter import LoraFactors
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.progress import Progress
from paraknow_core.seeding import derived_seed

LEAST_TEXTS = 2
"""A map is fitted on one half and used on the other."""

Signals = dict[str, LoraFactors]
"""By the student's module: ``b @ a`` is the update. What is left out starts as plain LoRA."""


@dataclass(frozen=True)
class SignalOptions:
    """How a signal is turned into an update.

    Attributes:
        ridge: λ over the mean of XᵀX's diagonal, at least 0.
        answers_only: whether only positions that predict an answer token count.
    """

    ridge: float = 0.01
    answers_only: bool = False


@dataclass(frozen=True, eq=False)
class SharedText:
    """One text as both models read it.

    Attributes:
        number: of the text, from 0.
        student_T: the student's token numbers.
        teacher_T: the teacher's token numbers of the same tokens.
        counts_T: the positions that count.
        labels_T: the student's token numbers where there is an answer, ``NO_LOSS`` elsewhere.
    """

    number: int
    student_T: Tensor  # noqa: N815 - shape suffixes
    teacher_T: Tensor  # noqa: N815
    counts_T: Tensor  # noqa: N815
    labels_T: Tensor  # noqa: N815

    @property
    def half(self) -> int:
        """0 or 1: what is fitted on one half is used on the other."""
        return self.number % 2

    @property
    def has_answer(self) -> bool:
        """Whether some token is to be predicted from those before it."""
        return bool((self.labels_T[1:] != NO_LOSS).any())

    @property
    def students(self) -> TokenisedExample:
        """The text with its answer, for the student."""
        return TokenisedExample((*self.student_T.tolist(),), (*self.labels_T.tolist(),))

    @property
    def teachers(self) -> TokenisedExample:
        """The same for the teacher, whose numbers of the tokens may be others."""
        labels_T = torch.where(self.labels_T == NO_LOSS, NO_LOSS, self.teacher_T)
        return TokenisedExample((*self.teacher_T.tolist(),), (*labels_T.tolist(),))


@dataclass
class SignalRequest:
    """One update to make.

    Attributes:
        teacher_folder: the teacher, or what a control puts in its place.
        student_folder: the student.
        student: its sizes.
        modules: the modules to change, with their roles.
        texts: what both models read.
        match: the teacher's token for each of the student's.
        rank: of every factor.
        options: how the signal is turned into an update.
        shuffle: a seed: the teacher's signals are those of other positions or tokens. A control.
        device: where the models run.
        progress: called with (done, of, message).
    """

    teacher_folder: Path
    student_folder: Path
    student: Architecture
    modules: Mapping[str, Role]
    texts: Sequence[SharedText]
    match: TokenMatch
    rank: int
    options: SignalOptions
    shuffle: int | None
    device: str
    progress: Progress
    _models: dict[Path, Any] = field(default_factory=dict)

    def model(self, folder: Path) -> Any:
        """Load a model in float32 when it is first needed; its weights need no gradient."""
        from paraknow_core.models.load import load_model

        if folder not in self._models:
            model = load_model(folder, dtype=torch.float32, device=self.device)
            self._models[folder] = model.requires_grad_(False)
        return self._models[folder]

    @property
    def shared_P(self) -> Tensor:  # noqa: N802 - shape suffix
        """The student's tokens that have a partner, ascending."""
        return (torch.tensor(self.match.rows) >= 0).nonzero().flatten()

    @property
    def teachers_P(self) -> Tensor:  # noqa: N802 - shape suffix
        """The teacher's partners of ``shared_P``."""
        return torch.tensor(self.match.rows)[self.shared_P]

    def each(self) -> Iterator[tuple[SharedText, SharedText, Tensor]]:
        """Go through the texts.

        Yields:
            The text; the text that the teacher reads; and for each position of the first the
            position of the second whose signal stands for it. These are the same text and
            position, but under ``shuffle``: then the teacher reads another text of the same half,
            where there is one, and its positions are in a drawn order.
        """
        source = torch.Generator()
        if self.shuffle is not None:
            source.manual_seed(derived_seed(self.shuffle, "signals of other positions"))
        for done, text in enumerate(self.texts):
            self.progress(done, len(self.texts), "texts")
            size = len(text.student_T)
            if self.shuffle is None:
                yield text, text, torch.arange(size)
                continue
            half = [other for other in self.texts if other.half == text.half]
            read = half[(half.index(text) + 1) % len(half)]
            order = torch.randperm(len(read.teacher_T), generator=source)
            yield text, read, order.repeat(-(-size // len(order)))[:size]

    def log_probs(self, folder: Path, text: SharedText) -> Tensor:
        """A model's next-token log-probabilities among the shared tokens, T×P in float32.

        Of a text that may be long, take them in parts (`parts`).
        """
        ids_T = self.tokens(folder, text)
        logits_TV: Tensor = self.model(folder)(input_ids=ids_T[None].to(self.device)).logits[0]
        return self.among_shared(logits_TV, folder)

    def tokens(self, folder: Path, text: SharedText) -> Tensor:
        """A text's token numbers as a model reads them."""
        return text.student_T if folder == self.student_folder else text.teacher_T

    def among_shared(self, logits_TV: Tensor, folder: Path) -> Tensor:
        """Turn a model's logits into log-probabilities among the shared tokens, T×P in float32."""
        tokens_P = self.shared_P if folder == self.student_folder else self.teachers_P
        return logits_TV.float()[:, tokens_P.to(logits_TV.device)].log_softmax(-1)


def both_read(
    samples: Sequence[TokenisedExample], match: TokenMatch, *, answers_only: bool
) -> list[SharedText]:
    """Give the teacher the student's tokens: so positions correspond, whatever the tokenizers.

    A text with a token that the teacher does not have is left out.

    Args:
        samples: tokenised by the student's tokenizer.
        match: of the two vocabularies.
        answers_only: whether only positions that predict an answer token count.

    Raises:
        DataError: if fewer than two texts are left, as a map is fitted on one half of them and
            used on the other.
    """
    partner_V = torch.tensor(match.rows)
    found: list[SharedText] = []
    for sample in samples:
        ours_T = torch.tensor(sample.input_ids)
        theirs_T = partner_V[ours_T]
        if bool((theirs_T < 0).any()):
            continue
        labels_T = torch.tensor(sample.labels)
        counts_T = torch.ones(len(ours_T), dtype=torch.bool)
        counts_T[-1] = False  # nothing follows the last token
        if answers_only:
            counts_T[:-1] = labels_T[1:] >= 0
        found.append(SharedText(len(found), ours_T, theirs_T, counts_T, labels_T))
    if len(found) < LEAST_TEXTS:
        raise DataError(
            f"Of {len(samples)} seed texts {len(found)} have only tokens that the teacher has too; "
            f"at least {LEAST_TEXTS} are needed, since what is fitted on one half of them is used "
            "on the other. Give more seeds (data.sizes.seeds), or a teacher whose tokenizer has "
            "the special tokens of the student's as well."
        )
    return found
