"""Shared rows and shared runs of words between splits, against a slow reference."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraknow_core.data.contamination import (
    ALL_PAIRS,
    SharedRows,
    contamination,
    refuse_contamination,
)
from paraknow_core.data.examples import Example
from paraknow_core.errors import ConfigError, DataError

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen"


def entry(table, first: str, second: str, kind: str) -> SharedRows:
    (found,) = [e for e in table if (e.first, e.second, e.kind) == (first, second, kind)]
    return found


def rows(*texts: str) -> list[Example]:
    return [Example(f"r{place}", text, "") for place, text in enumerate(texts)]


def test_thirteen_shared_words_are_found_and_twelve_are_not() -> None:
    train = rows(f"before {LONG} after")
    test = [Example("hit", f"Other  {LONG.upper()},", "end"), Example("miss", LONG[4:], "end")]
    found = entry(contamination({"train": train, "test": test}), "train", "test", "n-gram")
    assert (found.hits, found.rows) == (1, 2)
    assert found.examples == (("r0", "hit", LONG),)


def test_a_run_may_go_from_prompt_to_answer_but_not_from_row_to_row() -> None:
    first, second = LONG[:20].rsplit(" ", 1)[0], LONG[len(LONG[:20].rsplit(" ", 1)[0]) :]
    across = {"train": rows(LONG), "test": [Example("t", first, second)]}
    assert entry(contamination(across), "train", "test", "n-gram").hits == 1
    between = {"train": rows(LONG), "test": rows("x " + first, second)}
    assert entry(contamination(between), "train", "test", "n-gram").hits == 0


def test_short_rows_are_compared_as_a_whole() -> None:
    table = contamination({"train": rows("a b c", ""), "test": rows("A, b c!", "a b", "", "?")})
    found = entry(table, "train", "test", "n-gram")
    assert found.examples == (("r0", "r0", "a b c"),)
    inside = contamination({"train": rows(LONG), "test": rows("one two three")})
    assert entry(inside, "train", "test", "n-gram").hits == 0


def test_tokenised_rows_are_compared_by_tokens_and_never_with_text() -> None:
    def tokens(name: str, *ids: int) -> Example:
        return Example(name, input_ids=ids, labels=(-100,) * len(ids))

    run = tuple(range(13))
    table = contamination(
        {
            "train": [tokens("a", 99, *run), Example("b", " ".join(map(str, run)))],
            "test": [tokens("c", *run, 98), Example("d", "x " + " ".join(map(str, run)))],
        }
    )
    found = entry(table, "train", "test", "n-gram")
    assert [(a, b) for a, b, _ in found.examples] == [("a", "c"), ("b", "d")]


words = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)


@given(st.lists(words, max_size=5), st.lists(words, max_size=5), st.integers(1, 5))
def test_as_a_slow_reference(train: list[str], test: list[str], n: int) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        parts = text.split()
        if 0 < len(parts) < n:
            return {tuple(parts)}
        return {tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)} - {()}

    known = set().union(*map(grams, train))
    table = contamination({"train": rows(*train), "test": rows(*test)}, n=n)
    assert entry(table, "train", "test", "n-gram").hits == sum(bool(grams(t) & known) for t in test)


def test_all_pairs_of_splits_stand_in_the_table_and_test_comes_last() -> None:
    splits = {name: rows(f"only in {name}") for name in ("test", "validation", "seeds", "train")}
    table = contamination(splits)
    assert tuple((e.first, e.second) for e in table if e.kind == "n-gram") == ALL_PAIRS
    assert {e.hits for e in table} == {0}
    refuse_contamination(table)


def test_a_hit_fails_unless_its_pair_and_kind_are_allowed() -> None:
    same = rows(LONG)
    splits = {"train": same, "test": same}
    with pytest.raises(DataError) as caught:
        refuse_contamination(contamination(splits, allow_ngrams=ALL_PAIRS))
    assert "1 of 1 rows of test (exact) stand in train: 'r0' and 'r0' share" in str(caught.value)
    assert "n-gram" not in str(caught.value)
    both = contamination(splits, allow_exact=[("test", "train")], allow_ngrams=[("train", "test")])
    refuse_contamination(both)
    assert all(e.hits == 1 and "(allowed)" in e.describe() for e in both)
    with pytest.raises(DataError, match=r"1 of 1 rows of test \(n-gram\)"):
        refuse_contamination(contamination(splits, allow_exact=ALL_PAIRS))


def test_an_impossible_n_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 0"):
        contamination({}, n=0)


def test_many_rows_take_seconds() -> None:
    generator = random.Random(0)
    vocabulary = [f"w{i}" for i in range(5000)]
    texts = [" ".join(generator.choices(vocabulary, k=30)) for _ in range(20_000)]
    splits = {"train": rows(*texts[:19_000]), "test": rows(*texts[19_000:], texts[7])}
    start = time.process_time()
    table = contamination(splits)
    assert time.process_time() - start < 10
    assert entry(table, "train", "test", "n-gram").hits == 1
