import re
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from paraknow_core.data.splits import SplitSizes, check_overlap
from paraknow_core.data.tokenisation import tokenise
from paraknow_core.demo.language import (
    build_tokenizer,
    generate_problems,
    problem_splits,
    sentence_stream,
    sums,
    vocabulary,
    write_tokenizer,
)
from paraknow_core.errors import ConfigError

GAINS = {
    "buys", "finds", "gets", "makes", "picks", "wins", "collects", "borrows", "earns", "receives",
}  # fmt: skip


def solve(prompt: str) -> int:
    """The reference: read both numbers, and look for a word of gain."""
    a, b = (int(number) for number in re.findall(r"\d+", prompt))
    return a + b if GAINS & set(prompt.split()) else a - b


def sentences(count: int, *, seed: int) -> list[str]:
    """The first sentences of a stream."""
    return list(islice(sentence_stream(seed=seed), count))


def without_fillers(prompt: str) -> str:
    """What is left of a prompt without its name, thing and numbers: its wording."""
    words = prompt.split()
    numbers = [place for place, word in enumerate(words) if word.isdecimal()]
    name, thing = words[numbers[0] - 2], words[numbers[0] + 1]
    return " ".join({name: "NAME", thing: "THING"}.get(word, word) for word in words)


def test_the_vocabulary_has_376_different_tokens() -> None:
    words = vocabulary()
    assert len(words) == len(set(words)) == 376
    assert [words.index(str(number)) for number in (0, 29)] == [4, 33]


def test_there_are_841_sums_with_results_in_range() -> None:
    results = [a + b if kind == "gain" else a - b for kind, a, b in sums()]
    assert len(set(sums())) == 841
    assert (min(results), max(results)) == (0, 29)


@pytest.mark.parametrize("wording", ["train", "test"])
def test_answers_are_right(wording: str) -> None:
    for problem in generate_problems(500, seed=3, wording=wording):
        assert problem.answer == f" {solve(problem.prompt)}"
        assert problem.prompt.endswith(" answer :")


def test_problems_follow_from_the_seed() -> None:
    first = generate_problems(30, seed=1, wording="train")
    assert first == generate_problems(50, seed=1, wording="train")[:30]
    assert {p.prompt for p in first}.isdisjoint(
        p.prompt for p in generate_problems(30, seed=2, wording="train")
    )


def test_no_wording_of_the_test_split_is_ever_trained_on() -> None:
    numberless = [
        {re.sub(r"\d+", "N", without_fillers(p.prompt)) for p in problems}
        for problems in (
            generate_problems(20_000, seed=0, wording="train"),
            generate_problems(2_000, seed=0, wording="test"),
        )
    ]
    train, test = numberless
    assert train.isdisjoint(test)
    # … but each of its words is, in other combinations.
    assert {w for text in test for w in text.split()} == {w for text in train for w in text.split()}
    assert len(test) == pytest.approx(len(train) / 4, rel=0.1)


def test_both_wordings_draw_from_the_same_sums() -> None:
    train, test = (
        Counter(
            (solve(p.prompt) >= int(re.findall(r"\d+", p.prompt)[0]), *re.findall(r"\d+", p.prompt))
            for p in generate_problems(12_000, seed=0, wording=wording)
        )
        for wording in ("train", "test")
    )
    assert len(train) == len(test) == 841
    assert max(test.values()) < 3 * 12_000 / 841


def test_splits_do_not_overlap() -> None:
    sizes = SplitSizes(seeds=32, train=1000, validation=200, test=500)
    splits = problem_splits(sizes, seed=0)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "seeds": 32, "train": 1000, "validation": 200, "test": 500,
    }  # fmt: skip
    check_overlap(splits)
    prompts = [row.prompt for rows in splits.values() for row in rows]
    assert len(set(prompts)) == len(prompts) == 1732
    ids = [row.id for rows in splits.values() for row in rows]
    assert len(set(ids)) == len(ids)


def test_the_whole_language_is_in_the_vocabulary_and_used() -> None:
    problems = generate_problems(4_000, seed=0, wording="train")
    texts = [p.prompt + p.answer for p in problems] + sentences(8_000, seed=0)
    words = {word for text in texts for word in text.split()}
    assert words == set(vocabulary()[4:])


def test_general_text_tells_true_sums() -> None:
    facts = Counter()
    for sentence in sentences(5_000, seed=0):
        match = re.fullmatch(r"(\d+) (more|less) than (\d+) is (\d+) \.", sentence)
        if match:
            b, a, result = (int(match[i]) for i in (1, 3, 4))
            facts[match[2]] += 1
            assert result == (a + b if match[2] == "more" else a - b)
    assert facts["more"] > 1_000
    assert facts["less"] > 1_000
    assert sentences(40, seed=0) != sentences(40, seed=1)


def test_a_problem_tokenises_cleanly() -> None:
    tokenizer, words = build_tokenizer(), vocabulary()
    for problem in generate_problems(200, seed=0, wording="test"):
        whole = tokenise(problem, tokenizer, cutoff=64)
        text = f"<s> {problem.prompt}{problem.answer} </s>".split()
        assert [words[i] for i in whole.input_ids] == text
        assert whole.answer_tokens == 2  # the number, and the end
        assert len(text) <= 26


def test_decoding_gives_the_text_back() -> None:
    tokenizer = build_tokenizer()
    text = "tom has 7 eggs . tom buys 5 more . how many has tom got ? answer : 12"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.decode(ids[-1:]).strip() == "12"
    assert tokenizer("zebra", add_special_tokens=False)["input_ids"] == [tokenizer.unk_token_id]


def test_a_saved_tokenizer_loads_the_same(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    write_tokenizer(tmp_path)
    loaded, text = AutoTokenizer.from_pretrained(str(tmp_path)), "the red cat sleeps ."
    assert loaded(text)["input_ids"] == build_tokenizer()(text)["input_ids"]
    assert loaded.get_vocab() == {word: row for row, word in enumerate(vocabulary())}
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"wording is 'dev'.*'train' and 'test'"):
        generate_problems(1, seed=0, wording="dev")
    with pytest.raises(ConfigError, match=r"count is -1"):
        generate_problems(-1, seed=0, wording="train")
    with pytest.raises(ConfigError, match=r"split 'seeds' has size -2"):
        problem_splits(SplitSizes(seeds=-2), seed=0)
