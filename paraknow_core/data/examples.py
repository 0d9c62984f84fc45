"""One row of a data set, as text or as token numbers, and when two rows count as the same."""

import unicodedata
from dataclasses import dataclass

NO_LOSS = -100
"""The label of a token without a loss (the value that ``torch.nn.CrossEntropyLoss`` ignores)."""


@dataclass(frozen=True)
class Example:
    """One row: either text (``prompt``, ``answer``) or token numbers (``input_ids``, ``labels``).

    A tokenised row has empty texts; a text row has None in both token fields. A row of a test split
    may lack an answer. ``references`` are further right answers. ``own`` is the row's own question,
    where the prompt holds more than that (an instruction, few-shot examples): splits are compared
    by it.
    """

    id: str
    prompt: str = ""
    answer: str = ""
    input_ids: tuple[int, ...] | None = None
    labels: tuple[int, ...] | None = None
    references: tuple[str, ...] = ()
    own: str = ""

    @property
    def prompt_key(self) -> str:
        """The prompt as it is compared across splits: see `normalise`."""
        if self.input_ids is None or self.labels is None:
            return normalise(self.own or self.prompt)
        return str([i for i, label in zip(self.input_ids, self.labels, strict=True) if label < 0])

    @property
    def content_key(self) -> tuple[str, str]:
        """Prompt and answer as they are compared across splits."""
        if self.input_ids is None or self.labels is None:
            return self.prompt_key, normalise(self.answer)
        return self.prompt_key, str([label for label in self.labels if label >= 0])


@dataclass(frozen=True)
class TokenisedExample:
    """Token numbers of prompt, answer and end-of-sequence; labels are `NO_LOSS` on the prompt.

    Labels stand at their own token's place (unshifted), as Transformers' models expect them.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def answer_tokens(self) -> int:
        """Number of tokens with a loss."""
        return sum(label != NO_LOSS for label in self.labels)


@dataclass(frozen=True)
class Columns:
    """The names under which a data set keeps its fields."""

    prompt: str = "prompt"
    answer: str = "answer"
    messages: str = "messages"
    input_ids: str = "input_ids"
    labels: str = "labels"
    id: str = "id"


def normalise(text: str) -> str:
    """Text without the differences that are ignored in comparisons: case, width, white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
