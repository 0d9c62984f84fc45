"""Splits: disjoint, deterministic, of the sizes asked for; and the check of given splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraknow_core.data import (
    SPLITS,
    Example,
    SplitSizes,
    check_overlap,
    find_overlaps,
    split_examples,
)
from paraknow_core.errors import DataError


def rows(n: int) -> list[Example]:
    return [Example(f"r{i}", f"prompt {i}", f"answer {i}") for i in range(n)]


def ids(splits: dict[str, list[Example]]) -> dict[str, list[str]]:
    return {name: [example.id for example in split] for name, split in splits.items()}


SIZES = SplitSizes(seeds=4, train=20, validation=5, test=10)


def test_sizes_are_exact_and_all_rows_can_be_used() -> None:
    splits = split_examples(rows(39), sizes=SIZES, seed=0)
    assert {name: len(split) for name, split in splits.items()} == {
        "seeds": 4,
        "train": 20,
        "validation": 5,
        "test": 10,
    }
    assert len({example.id for split in splits.values() for example in split}) == 39


def test_order_of_the_rows_makes_no_difference_and_the_seed_does() -> None:
    examples = rows(60)
    first = ids(split_examples(examples, sizes=SIZES, seed=1))
    assert ids(split_examples(examples[::-1], sizes=SIZES, seed=1)) == first
    assert ids(split_examples(examples, sizes=SIZES, seed=2)) != first


def test_a_larger_training_split_leaves_the_others_as_they_were() -> None:
    small = ids(split_examples(rows(100), sizes=SIZES, seed=0))
    large = ids(split_examples(rows(100), sizes=SplitSizes(4, 60, 5, 10), seed=0))
    assert large["train"][:20] == small["train"]
    for name in ("seeds", "validation", "test"):
        assert large[name] == small[name]


def test_one_more_row_moves_at_most_one_row_of_the_test_split() -> None:
    before = ids(split_examples(rows(100), sizes=SIZES, seed=0))["test"]
    for extra in range(20):
        more = [*rows(100), Example("new", f"another {extra}", "x")]
        after = ids(split_examples(more, sizes=SIZES, seed=0))["test"]
        assert len(set(before) - set(after)) <= 1


def test_too_few_rows_are_counted() -> None:
    examples = [*rows(20), Example("copy", "PROMPT  3", "answer 3")]
    with pytest.raises(DataError) as caught:
        split_examples(examples, sizes=SIZES, seed=0)
    message = str(caught.value)
    assert "39 wanted (seeds 4, train 20, validation 5, test 10)" in message
    assert "21 rows given hold 20 distinct" in message
    assert "train 1" in message


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(DataError, match="'train' cannot have -1"):
        split_examples(rows(5), sizes=SplitSizes(0, -1, 0, 0), seed=0)


texts = st.sampled_from(["a", "A", " a", "b", "ｂ", "c", "d", "e", "e  "])


@given(pairs=st.lists(st.tuples(texts, texts), max_size=25), seed=st.integers(0, 5))
def test_whatever_is_repeated_splits_share_no_prompt(
    pairs: list[tuple[str, str]], seed: int
) -> None:
    examples = [Example(str(place), *pair) for place, pair in enumerate(pairs)]
    try:
        splits = split_examples(examples, sizes=SplitSizes(1, 2, 1, 1), seed=seed)
    except DataError:
        assert len({example.content_key for example in examples}) < 25
        return
    prompts = [{example.prompt_key for example in splits[name]} for name in SPLITS]
    assert sum(map(len, prompts)) == len(set().union(*prompts))
    contents = [example.content_key for split in splits.values() for example in split]
    assert len(contents) == len(set(contents)) == 5
    assert find_overlaps(splits) == []


def test_tokenised_rows_are_compared_by_their_tokens() -> None:
    def tokens(name: str, *answer: int) -> Example:
        return Example(name, input_ids=(1, 2, *answer), labels=(-100, -100, *answer))

    splits = {"seeds": [tokens("a", 3)], "train": [tokens("b", 4)], "test": []}
    check_overlap(splits)
    (overlap,) = find_overlaps({**splits, "train": [tokens("b", 3)]})
    assert (overlap.first_id, overlap.second_id) == ("a", "b")


def test_overlap_names_the_first_rows_on_both_sides() -> None:
    seeds = [Example("s0", "one", "1"), Example("s1", "Two  apples", "2")]
    test = [Example("t0", "three", "3"), Example("t1", "two apples", "another answer")]
    with pytest.raises(DataError) as caught:
        check_overlap({"seeds": seeds, "train": rows(3), "test": test})
    message = str(caught.value)
    assert message.startswith("seeds overlap the test split")
    assert "'s1'" in message
    assert "'t1'" in message
    assert "same prompt;" in message


def test_beside_the_test_split_only_prompt_and_answer_count() -> None:
    train = [Example("t", "p", "1")]
    check_overlap({"train": train, "validation": [Example("v", "P", "2")]})
    with pytest.raises(DataError, match="same prompt and answer"):
        check_overlap({"train": train, "validation": [Example("v", "P", "1")]})


def test_an_overlap_can_be_allowed_pair_by_pair() -> None:
    shared = rows(2)
    splits = {"seeds": shared, "train": shared, "test": []}
    with pytest.raises(DataError, match="seeds overlap the train split"):
        check_overlap(splits)
    check_overlap(splits, allow=[("train", "seeds")])
    with pytest.raises(DataError, match="train overlap the test split"):
        check_overlap({"train": shared, "test": shared}, allow=[("train", "seeds")])
