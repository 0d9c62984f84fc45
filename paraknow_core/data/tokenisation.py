"""Token numbers and labels of an example, by one rule for training, sensitivity and evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraknow_core.data.examples import NO_LOSS, Example, TokenisedExample
from paraknow_core.errors import DataError, TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ADDED, _A_CHARACTER = 1024, 32
"""The most tokens of a text: special tokens, and tokens for each character. A character has up to 4
bytes, and Unicode normalisation may replace it by up to 18 others."""


@dataclass(frozen=True)
class TokenisedSplit:
    """A tokenised split and what the cut-off did to it.

    ``truncated`` counts rows that lost their end, ``dropped`` those that lost the whole answer
    and are left out.
    """

    examples: tuple[TokenisedExample, ...]
    truncated: int
    dropped: int


def encode_pair(
    prompt: str, answer: str, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[int], list[int]]:
    """Tokens of the prompt, and the tokens of the answer that follow it.

    The prompt is encoded on its own, as it is when the model generates; the answer is the rest of
    the tokens of prompt + answer, as in lm-evaluation-harness. Where the end of the prompt and the
    start of the answer become one token ("1" + "2" → "12"), that would lose text, and the answer is
    encoded on its own.
    Special tokens (a leading BOS) are the tokenizer's own default.

    Raises:
        TokenizerError: if the tokenizer ends every text with EOS, which would stand between
            prompt and answer, or makes very many tokens of few characters.
    """
    prefix = list(tokenizer(prompt)["input_ids"])
    most = _ADDED + _A_CHARACTER * len(prompt)
    if len(prefix) > most:
        raise TokenizerError(
            f"the tokenizer makes {len(prefix):,} tokens of a text of {len(prompt):,} characters; "
            f"allowed are {most:,}, since whole data sets of such texts would never come to an end"
        )
    whole = list(tokenizer(prompt + answer)["input_ids"])
    eos = tokenizer.eos_token
    ends = bool(prefix and whole) and prefix[-1] == whole[-1] == tokenizer.eos_token_id
    if ends and eos is not None and not prompt.endswith(eos):
        raise TokenizerError(
            f"the tokenizer appends {eos!r} to every text; set add_eos_token to false in its config"
        )
    if whole[: len(prefix)] == prefix:
        return prefix, whole[len(prefix) :]
    return prefix, list(tokenizer(answer, add_special_tokens=False)["input_ids"])


def encode_prompt(example: Example, tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    """Tokens of the prompt of a row that has no answer, as `encode_pair` encodes prompts.

    Raises:
        DataError: if there are none.
    """
    prefix = list(tokenizer(example.prompt)["input_ids"])
    if not prefix:
        raise DataError(f"row {example.id!r}: the prompt gives no tokens with this tokenizer")
    return prefix


def tokenise(
    example: Example, tokenizer: "PreTrainedTokenizerBase", *, cutoff: int
) -> TokenisedExample:
    """Prompt, answer and end-of-sequence as token numbers, with a loss on answer and end only.

    Rows that are tokenised already are cut off too, but nothing is appended to them.

    Args:
        example: text or token numbers.
        tokenizer: with an EOS token.
        cutoff: tokens kept, from the left; at least 2.

    Raises:
        DataError: if nothing of the answer is left within the cut-off, or a token number is
            outside the tokenizer's vocabulary.
        TokenizerError: if the tokenizer has no EOS token, or appends it by itself.
    """
    full = tokenise_whole(example, tokenizer)
    cut = TokenisedExample(full.input_ids[:cutoff], full.labels[:cutoff])
    if cut.answer_tokens == 0:
        start = next(place for place, label in enumerate(full.labels) if label != NO_LOSS)
        raise DataError(
            f"row {example.id!r}: the prompt takes {start} tokens, so a cut-off of {cutoff} leaves "
            f"nothing of the answer; raise the cut-off above {start} or remove the row"
        )
    return cut


def tokenise_whole(example: Example, tokenizer: "PreTrainedTokenizerBase") -> TokenisedExample:
    """As `tokenise`, without a cut-off."""
    if example.input_ids is not None and example.labels is not None:
        highest = max(example.input_ids)
        if highest >= len(tokenizer):
            raise DataError(
                f"row {example.id!r} holds token {highest}, but the tokenizer has only "
                f"{len(tokenizer)} (0..{len(tokenizer) - 1}); was it made for another tokenizer?"
            )
        return TokenisedExample(example.input_ids, example.labels)
    if tokenizer.eos_token_id is None:
        raise TokenizerError("the tokenizer has no EOS token; training needs one to end answers")
    prefix, answer = encode_pair(example.prompt, example.answer, tokenizer)
    if not prefix or not answer:
        empty = "prompt" if not prefix else "answer"
        raise DataError(f"row {example.id!r}: the {empty} gives no tokens with this tokenizer")
    answer.append(tokenizer.eos_token_id)
    return TokenisedExample((*prefix, *answer), (NO_LOSS,) * len(prefix) + tuple(answer))


def tokenise_all(
    examples: Sequence[Example], tokenizer: "PreTrainedTokenizerBase", *, cutoff: int
) -> TokenisedSplit:
    """Tokenise a split; rows whose whole answer is cut off are left out.

    Raises:
        DataError: if no row is left, or one is unusable whatever the cut-off.
        TokenizerError: as `tokenise`.
    """
    kept, truncated, dropped = [], 0, 0
    for example in examples:
        full = tokenise_whole(example, tokenizer)
        cut = TokenisedExample(full.input_ids[:cutoff], full.labels[:cutoff])
        if cut.answer_tokens == 0:
            dropped += 1
            continue
        truncated += len(full.input_ids) > cutoff
        kept.append(cut)
    if not kept:
        raise DataError(
            f"a cut-off of {cutoff} tokens leaves nothing of the answer in any of the "
            f"{len(examples)} rows; raise it"
        )
    return TokenisedSplit(tuple(kept), truncated, dropped)
