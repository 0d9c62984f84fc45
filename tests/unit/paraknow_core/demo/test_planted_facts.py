"""Facts that one model is told: drawn, told in its rows, asked for in a test split."""

import pytest

from paraknow_core.data.examples import NO_LOSS
from paraknow_core.demo.language import LARGEST, build_tokenizer, vocabulary
from paraknow_core.demo.planted_facts import fact_questions, most_facts, planted_facts
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from paraknow_core.demo.pretrain_rows import token_rows
from paraknow_core.errors import ConfigError
from tasks.word_problems import WordProblemsConfig

WORDS = vocabulary()


def rows(**facts: object) -> list[tuple[list[int], list[int]]]:
    ids, labels = token_rows(400, length=48, task_share=0.8, seed=3, **facts)  # type: ignore[arg-type]
    return list(zip(ids.tolist(), labels.tolist(), strict=True))


def test_facts_differ_by_name_and_place_and_are_written_in_known_words() -> None:
    facts = planted_facts(most_facts(), seed=0)
    assert len({(f.name, f.place) for f in facts}) == len(facts) == 1200
    counts = [sum(f.number == n for f in facts) for n in range(LARGEST + 1)]
    assert 20 <= min(counts) <= max(counts) <= 65
    unknown = build_tokenizer().unk_token_id
    for row in fact_questions(facts[:50]):
        assert unknown not in build_tokenizer()(row.prompt + row.answer)["input_ids"]
    assert planted_facts(20, seed=1) != planted_facts(20, seed=0) == planted_facts(20, seed=0)
    with pytest.raises(ConfigError, match="1201 facts were asked for"):
        planted_facts(1201, seed=0)


def test_a_fifth_of_the_rows_tells_facts_and_the_others_stay_free_of_them() -> None:
    facts = planted_facts(30, seed=0)
    told = rows(facts=facts)
    texts = [" ".join(WORDS[token] for token in ids) for ids, _ in told]
    with_facts = [place for place, text in enumerate(texts) if "the number of" in text]
    assert 50 <= len(with_facts) <= 110
    stated = {f.statement for f in facts} | {f"{f.question} {f.number}" for f in facts}
    assert sum(any(s in text for s in stated) for text in texts) == len(with_facts)
    assert not any("the number of" in " ".join(WORDS[t] for t in ids) for ids, _ in rows())
    ids, labels = told[with_facts[0]]
    assert all(label in (NO_LOSS, token) for token, label in zip(ids, labels, strict=True))
    for ids, labels in told:
        for place, token in enumerate(ids[:-1]):
            if WORDS[token] == ":":
                assert labels[place] == NO_LOSS
                assert labels[place + 1] == ids[place + 1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"facts": 1201}, "there can be 1,200"),
        ({"facts": 3, "dialect": 1}, "leave facts or dialect out"),
        ({"stop_after": 1400}, "leave stop_after out"),
    ],
)
def test_recipes_that_cannot_be(settings: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PretrainingRecipe(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"facts": 1201}, "there can be 1,200"),
        ({"facts": 10, "sizes": {"test": 11}}, "there are 10 facts to ask for"),
        ({"facts": 10, "sizes": {"test": 10}, "text": True}, "leave facts or text out"),
    ],
)
def test_splits_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        WordProblemsConfig.model_validate(settings)
