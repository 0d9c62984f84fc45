"""Shared rows and shared runs of words between splits, against a slow reference."""

import itertools
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraknow_core.data.contamination import (
    ALL_PAIRS,
    GENERIC,
    LEAST_SHARE,
    OWN_WORDS,
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


words = st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join)
questions = st.lists(st.tuples(words, words), max_size=5)


def slow_overlaps(train: list[list[Any]], test: list[list[Any]], n: int) -> int:
    """The rule word by word: how many rows of test overlap one of train."""

    def runs(row: tuple[str, str]) -> list[tuple[int, tuple[str, ...]]]:
        parts = " ".join(row).split()
        if 0 < len(parts) < n:
            return [(0, tuple(parts))]
        return [(i, tuple(parts[i : i + n])) for i in range(len(parts) - n + 1)]

    def is_generic(run: tuple[str, ...]) -> bool:
        for split in (train, test):
            rows = sum(run in {r for _, r in runs(row)} for row in split)
            if rows > GENERIC or (rows > len(split) / 2 and rows >= 3):
                return True
        return False

    def split_up(row: Any, shared: set[tuple[str, ...]]) -> tuple[float, int, bool]:
        parts = " ".join(row).split()
        asked = len(row[0].split()) or len(parts)
        kinds = ["own"] * len(parts)
        for kind, chosen in (("generic", is_generic), ("shared", shared.__contains__)):
            for start, run in runs(row):
                if chosen(run):
                    kinds[start : start + n] = [kind] * len(kinds[start : start + n])
        kinds = kinds[:asked]
        left = [kind for kind in kinds if kind != "generic"]
        longest = max((len(list(g)) for k, g in itertools.groupby(kinds) if k == "own"), default=0)
        share = left.count("shared") / len(left) if left else 0.0
        return share, longest, left[-1:] == ["own"]

    def overlap(a: Any, b: Any) -> bool:
        shared = {r for _, r in runs(a)} & {r for _, r in runs(b)}
        shared = {run for run in shared if not is_generic(run)}
        if not shared:
            return False
        (_, own_a, end_a), (share, own_b, end_b) = split_up(a, shared), split_up(b, shared)
        go_on = min(own_a, own_b) >= OWN_WORDS or (end_a and end_b)
        return share >= LEAST_SHARE and not go_on

    return sum(any(overlap(a, b) for a in train) for b in test)


@settings(max_examples=60)
@given(questions, questions, st.integers(1, 5))
def test_as_a_slow_reference(train: list[Any], test: list[Any], n: int) -> None:
    splits = {
        name: [Example(f"r{i}", *row) for i, row in enumerate(found)]
        for name, found in (("train", train), ("test", test))
    }
    found = entry(contamination(splits, n=n), "train", "test", "n-gram")
    assert found.hits == slow_overlaps(train, test, n)
    assert len(found.examples) == found.hits


def different(n: int, *, length: int = 20, seed: int = 0) -> list[str]:
    generator = random.Random(seed)
    return [" ".join(f"w{generator.randrange(9999)}" for _ in range(length)) for _ in range(n)]


def overlapping(train: list[Example], test: list[Example]) -> list[tuple[str, str]]:
    found = entry(contamination({"train": train, "test": test}), "train", "test", "n-gram")
    return [(first, second) for first, second, _ in found.examples]


def test_instructions_and_examples_that_most_rows_share_do_not_count() -> None:
    shown = different(1, length=60)[0]
    train = rows(*(f"{shown} {q}" for q in different(5)))
    test = rows(*(f"{shown} {q}" for q in different(4, seed=1)))
    assert overlapping(train, test) == []
    leaked = [*test, Example("leak", f"{shown} {different(5)[2]}", "")]
    assert overlapping(train, leaked) == [("r2", "leak")]


def test_an_instruction_of_two_rows_only_does_not_count_either() -> None:
    shown = different(1, length=60)[0]
    first, second = different(2, length=6)
    assert overlapping(rows(f"{shown} {first}"), rows(f"{shown} {second}")) == []
    assert overlapping(rows(f"{shown} {first}"), rows(f"Now: {shown} {second}")) == []
    assert overlapping(rows(f"{shown} Mexico"), rows(f"{shown} Kuwait")) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q,
        lambda q: f"Please solve this: {q}",
        lambda q: f"{q} Thanks a lot!",
        lambda q: q.replace(q.split()[15], "other"),
        lambda q: q.upper().replace(" ", ",  "),
    ],
)
def test_a_question_with_few_words_changed_counts(change: Any) -> None:
    question = different(1, length=32)[0]
    others = rows(*different(6, seed=2))
    assert overlapping(
        [*others, Example("a", question, "4")], [Example("b", change(question), "5")]
    )


def test_a_row_is_compared_by_its_own_question() -> None:
    shown, question = different(1, length=60)[0], different(1, length=20, seed=3)[0]
    long = Example("b", f"{shown} {question}", "", own=question)
    assert overlapping(rows(question), [long]) == [("r0", "b")]
    assert overlapping(rows(shown), [long]) == []


def test_a_phrase_of_many_rows_is_generic_but_a_question_of_few_is_not() -> None:
    phrase = different(1, length=14)[0]
    asked = different(40, length=14, seed=4)
    with_phrase = rows(*(f"{q} {phrase}" for q in asked[:11]), *asked[11:])
    assert overlapping(with_phrase, rows(f"x y {phrase}")) == []
    assert overlapping(with_phrase[1:], rows(f"x y {phrase}")) != []


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
