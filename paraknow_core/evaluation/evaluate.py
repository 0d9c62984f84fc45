"""Answer likelihood and greedy answers on a split, by lm-evaluation-harness.

One evaluator for every data set: the harness runs two tasks over the rows in memory, one of
log-likelihood, one of generation (`paraknow_core.evaluation.lm_eval_harness`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from paraknow_core.data.examples import NO_LOSS, Example
from paraknow_core.data.tokenisation import encode_pair, encode_prompt, tokenise_whole
from paraknow_core.errors import DataError
from paraknow_core.evaluation.items import Item, Question
from paraknow_core.evaluation.long_prompts import LongPrompts
from paraknow_core.evaluation.match import get_match
from paraknow_core.evaluation.metrics import REPORTED, EvaluationResult
from paraknow_core.progress import Progress, no_progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def evaluate(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    *,
    match: str = "exact",
    metrics: Sequence[str] = REPORTED,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    until: Sequence[str] | None = None,
    long_prompts: LongPrompts = "refuse",
    progress: Progress = no_progress,
) -> EvaluationResult:
    """Measure a model on a split: teacher-forced likelihood, and greedy generation.

    Nothing is sampled, so there is no seed. Nothing is read from or written to a cache, and no
    network is used. Model (mode, generation settings) and tokenizer are left as they were.

    Args:
        model: a Transformers or PEFT causal language model, on its device.
        tokenizer: its tokenizer.
        examples: text rows; tokenised rows are decoded, if encoding the text gives the same tokens.
        match: name in `paraknow_core.evaluation.match.MATCHES`.
        metrics: names in `paraknow_core.evaluation.metrics.METRICS`.
        max_new_tokens: generation ends there at the latest.
        batch_size: rows a forward pass; changes no result beyond rounding.
        until: texts that end an answer, besides end-of-sequence. None: the line break, unless a
            reference answer holds one.
        long_prompts: what is done with rows that are too long for the model.
        progress: called as (rows done, 2 × rows, message) after each batch.

    Raises:
        DataError: for no rows or none with an answer, an unknown match, an answer in which the
            match finds nothing, a row too long for the model, or a tokenised row whose text gives
            other tokens.
    """
    from paraknow_core.evaluation.lm_eval_harness import run_harness

    _check_settings(examples, batch_size=batch_size, max_new_tokens=max_new_tokens)
    extract = get_match(match)
    questions = [_question(example, tokenizer) for example in examples]
    if not any(question.answer_ids for question in questions):
        raise DataError(
            f"none of the {len(questions)} test rows has an answer, so nothing can be scored; give "
            "reference answers to some of them"
        )
    expected = [_expected(question, match) for question in questions]
    found = run_harness(
        model,
        tokenizer,
        questions,
        until=_stops(questions) if until is None else tuple(until),
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        long_prompts=long_prompts,
        progress=progress,
    )
    rows = zip(questions, expected, found.answers, strict=True)
    return EvaluationResult(
        tuple(
            _item(row, answer, wanted, extract(answer[1]))
            for row, wanted, answer in rows
            if answer is not None
        ),
        tuple(metrics),
        cut=found.cut,
        left_out=found.answers.count(None),
    )


def _check_settings(examples: Sequence[Example], *, batch_size: int, max_new_tokens: int) -> None:
    if not examples:
        raise DataError("nothing to evaluate: the split holds no rows")
    if batch_size < 1 or max_new_tokens < 1:
        raise DataError(
            f"batch_size ({batch_size}) and max_new_tokens ({max_new_tokens}) must be at least 1"
        )


def _expected(question: Question, match: str) -> tuple[str, ...]:
    """What counts as right, by the answer and by each further reference; empty without any."""
    extract = get_match(match)
    texts = (question.answer, *question.references) if question.answer_ids else ()
    wanted = tuple(extract(text) for text in texts)
    if "" in wanted:
        raise DataError(
            f"row {question.id!r}: match {match!r} finds nothing to compare in the answer "
            f"{texts[wanted.index('')][:60]!r}; choose another match or remove the row"
        )
    return wanted


def _stops(questions: Sequence[Question]) -> tuple[str, ...]:
    texts = (text for question in questions for text in (question.answer, *question.references))
    return () if any("\n" in text for text in texts) else ("\n",)


def _item(
    question: Question, answer: tuple[float, str], expected: Sequence[str], extracted: str
) -> Item:
    loglikelihood, generated = answer
    return Item(
        id=question.id,
        prompt=question.prompt,
        answer=question.answer,
        nll=-loglikelihood if question.answer_ids else 0.0,
        tokens=len(question.answer_ids),
        generated=generated,
        extracted=extracted,
        expected=expected[0] if expected else "",
        correct=extracted in expected,
    )


def _question(example: Example, tokenizer: "PreTrainedTokenizerBase") -> Question:
    if example.input_ids is None and not example.answer:
        return Question(
            example.id, example.prompt, "", tuple(encode_prompt(example, tokenizer)), ()
        )
    whole = tokenise_whole(example, tokenizer)
    start = next(place for place, label in enumerate(whole.labels) if label != NO_LOSS)
    prompt_ids, answer_ids = whole.input_ids[:start], whole.input_ids[start:]
    if example.input_ids is None:
        return Question(
            example.id,
            example.prompt,
            example.answer,
            prompt_ids,
            answer_ids[:-1],
            references=example.references,
        )
    if NO_LOSS in whole.labels[start:]:
        raise DataError(
            f"row {example.id!r}: labels of {NO_LOSS} stand inside the answer; only rows that are "
            "one prompt followed by one answer can be evaluated"
        )
    if answer_ids[-1] == tokenizer.eos_token_id:
        answer_ids = answer_ids[:-1]
    return _decoded(example.id, prompt_ids, answer_ids, tokenizer)


def _decoded(
    identity: str,
    prompt_ids: tuple[int, ...],
    answer_ids: tuple[int, ...],
    tokenizer: "PreTrainedTokenizerBase",
) -> Question:
    """Turn token numbers into texts; refuse texts that would be encoded to other numbers."""
    added = tuple(tokenizer("")["input_ids"])  # such as BOS, which encoding adds again
    skip = len(added) if added and prompt_ids[: len(added)] == added else 0
    prompt = str(tokenizer.decode(list(prompt_ids[skip:])))
    whole = str(tokenizer.decode([*prompt_ids, *answer_ids][skip:]))
    answer = whole.removeprefix(prompt)
    if not answer_ids or encode_pair(prompt, answer, tokenizer) != (
        list(prompt_ids),
        list(answer_ids),
    ):
        raise DataError(
            f"row {identity!r} is given as token numbers that do not come back after decoding "
            f"(prompt {prompt[:40]!r}, answer {answer[:40]!r}); give its text to evaluate it"
        )
    return Question(identity, prompt, answer, prompt_ids, answer_ids)
