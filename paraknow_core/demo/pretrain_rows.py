"""Rows of tokens to pre-train on: whole word problems, filled up with general text, no padding.

Shapes: T = tokens of a row, P = rows in all.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from random import Random

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS
from paraknow_core.demo.language import SPECIAL, problem_stream, sentence_stream, vocabulary
from paraknow_core.demo.planted_facts import PlantedFact, fact_tokens

_BOS, _EOS, _UNKNOWN = SPECIAL.index("<s>"), SPECIAL.index("</s>"), SPECIAL.index("<unk>")
_SENTENCES_A_TEXT = 6
_FACTS_SHARE = 0.2


def token_rows(
    count: int,
    *,
    length: int,
    task_share: float,
    seed: int | str,
    dialect: int = 0,
    facts: Sequence[PlantedFact] = (),
) -> tuple[Tensor, Tensor]:
    """Lay text out in rows without padding.

    A row either begins with as many whole problems as fit, or is general text; in both cases it is
    filled up with general text, cut at its end.

    Args:
        count: number of rows P.
        length: tokens a row T, at least 32.
        task_share: share of the rows that begin with problems, on average.
        seed: another seed, other text.
        dialect: of the tokenizer; see `vocabulary`.
        facts: told in every fifth row on average, in place of what would stand there.

    Returns:
        Token numbers and labels, both P×T int32; labels are `NO_LOSS` on the prompts of problems
        and on the first token of a row, which nothing predicts.
    """
    source = Random(f"rows {seed}")  # noqa: S311
    numbers = {word: number for number, word in enumerate(vocabulary(dialect))}
    problems, texts = _problem_tokens(seed, numbers), _text_tokens(seed, numbers)
    facts_told = Random(f"rows of facts {seed}")  # noqa: S311
    told = fact_tokens(facts, seed=f"pretraining {seed}", numbers=numbers)
    ids_PT = torch.empty((count, length), dtype=torch.int32)
    labels_PT = torch.empty_like(ids_PT)
    for row in range(count):
        ids, labels = (
            _whole_problems(problems, length) if source.random() < task_share else ([], [])
        )
        if facts and facts_told.random() < _FACTS_SHARE:
            ids, labels = _filled(told, length)
        while len(ids) < length:
            text = next(texts)
            ids += text
            labels += text
        ids_PT[row] = torch.tensor(ids[:length], dtype=torch.int32)
        labels_PT[row] = torch.tensor([NO_LOSS, *labels[1:length]], dtype=torch.int32)
    return ids_PT, labels_PT


def _filled(
    texts: Iterator[tuple[list[int], list[int]]], length: int
) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    while len(ids) < length:
        text, of_text = next(texts)
        ids += text
        labels += of_text
    return ids, labels


def _whole_problems(
    problems: Iterator[tuple[list[int], list[int]]], length: int
) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    labels: list[int] = []
    prompt, answer = next(problems)
    while len(ids) + len(prompt) + len(answer) <= length:
        ids += prompt + answer
        labels += [NO_LOSS] * len(prompt) + answer
        prompt, answer = next(problems)
    return ids, labels


def _problem_tokens(
    seed: int | str, numbers: Mapping[str, int]
) -> Iterator[tuple[list[int], list[int]]]:
    for prompt, answer in problem_stream(seed=f"pretraining {seed}", wording="train"):
        asked = [numbers.get(word, _UNKNOWN) for word in prompt.split()]
        yield [_BOS, *asked], [numbers[answer.strip()], _EOS]


def _text_tokens(seed: int | str, numbers: Mapping[str, int]) -> Iterator[list[int]]:
    sentences = sentence_stream(seed=f"pretraining {seed}")
    while True:
        words = " ".join(islice(sentences, _SENTENCES_A_TEXT)).split()
        yield [_BOS, *(numbers.get(word, _UNKNOWN) for word in words), _EOS]
