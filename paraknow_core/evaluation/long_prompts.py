"""What is done with a prompt that leaves a model no room for the answer."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from paraknow_core.errors import DataError
from paraknow_core.evaluation.items import Question

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LongPrompts = Literal["refuse", "cut", "leave-out"]
"""refuse: an error names the row. cut: the prompt loses its beginning, as in
lm-evaluation-harness, except for the tokens that the tokenizer puts before every text. leave-out:
the row is not asked, and counted."""


@dataclass(frozen=True)
class Fitting:
    """How questions are made to fit.

    Attributes:
        limit: tokens that the model takes, prompt and answer together.
        most: tokens that are generated.
        policy: for a question that does not fit.
    """

    limit: int
    most: int
    policy: LongPrompts

    def fit(self, question: Question, tokenizer: "PreTrainedTokenizerBase") -> Question | None:
        """Return the question as it is asked; None if it is left out.

        Raises:
            DataError: if it does not fit and may not be cut, or no prompt at all would.
        """
        prompt, answer = len(question.prompt_ids), len(question.answer_ids)
        longest = max(answer, self.most)
        if prompt + longest <= self.limit:
            return question
        if self.policy == "leave-out":
            return None
        added = tuple(tokenizer("")["input_ids"])
        head = added if question.prompt_ids[: len(added)] == added else ()
        room = self.limit - longest - len(head)
        if self.policy == "cut" and room > 0:
            return replace(question, prompt_ids=(*head, *question.prompt_ids[-room:]))
        raise DataError(
            f"row {question.id!r} needs {prompt} prompt tokens and {longest} more (answer "
            f"{answer}, max_new_tokens {self.most}), but the model takes {self.limit}; lower "
            "max_new_tokens, remove the row, or set evaluate.long_prompts to cut or leave-out"
        )
