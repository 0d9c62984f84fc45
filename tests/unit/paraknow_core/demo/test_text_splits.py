"""Generic text as another task: same words, no sums, deterministic splits."""

import re

from paraknow_core.data.splits import SplitSizes, check_overlap
from paraknow_core.data.tokenisation import tokenise
from paraknow_core.demo.language import build_tokenizer, vocabulary
from paraknow_core.demo.sentences import text_splits
from paraknow_core.settings import identity_of
from tasks.word_problems import WordProblemsConfig

SIZES = SplitSizes(32, 20, 5, 10)


def test_rows_are_sentences_of_the_vocabulary_without_a_sum() -> None:
    splits = text_splits(SIZES, seed=0)
    check_overlap(splits)
    rows = [row for split in splits.values() for row in split]
    assert len(rows) == 67
    assert len({row.prompt for row in rows}) == 67
    words, tokenizer = set(vocabulary()), build_tokenizer()
    for row in rows:
        text = row.prompt + row.answer
        assert set(text.split()) <= words
        assert not re.search(r"than \d+ is", text)
        assert tokenise(row, tokenizer, cutoff=64).answer_tokens == len(row.answer.split()) + 1


def test_a_seed_gives_the_same_rows_and_another_seed_others() -> None:
    assert text_splits(SIZES, seed=0) == text_splits(SIZES, seed=0)
    assert text_splits(SIZES, seed=0) != text_splits(SIZES, seed=1)


def test_stored_word_problems_stay_valid() -> None:
    assert "text" not in identity_of(WordProblemsConfig())
    assert identity_of(WordProblemsConfig(text=True))["text"] is True
