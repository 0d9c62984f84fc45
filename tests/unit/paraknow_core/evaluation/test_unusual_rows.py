"""Rows with several right answers or none, prompts that are too long, and letters of options."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from support.tiny import tiny_config, tiny_tokenizer

from paraknow_core.data.examples import Example
from paraknow_core.errors import DataError
from paraknow_core.evaluation.evaluate import evaluate
from paraknow_core.evaluation.match import letter
from paraknow_core.evaluation.metrics import EvaluationResult


@pytest.fixture(scope="module")
def counting() -> Any:
    """A model that answers the token after the last one, whatever stands before it."""
    from transformers import AutoModelForCausalLM

    config = tiny_config("llama", hidden_size=64, num_hidden_layers=1)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(64))
        model.lm_head.weight.copy_(10 * torch.eye(64).roll(1, dims=0))
    return model


def measured(model: Any, rows: Sequence[Example], **options: Any) -> EvaluationResult:
    return evaluate(model, tiny_tokenizer(), rows, max_new_tokens=2, **options)


def test_any_of_several_answers_is_right_and_the_likelihood_is_of_the_first(counting: Any) -> None:
    rows = [
        Example("second", "5", " 9 9", references=(" 6 7", "8")),
        Example("none of them", "5", " 9 9", references=("7 6",)),
    ]
    found = measured(counting, rows)
    alone = measured(counting, [Example("x", "5", " 9 9")])
    assert [(item.correct, item.expected) for item in found.items] == [
        (True, "9 9"),
        (False, "9 9"),
    ]
    assert [item.nll for item in found.items] == pytest.approx([alone.items[0].nll] * 2)
    assert found.metrics["exact_match"] == 0.5


def test_a_reference_in_which_the_match_finds_nothing_is_refused(counting: Any) -> None:
    row = Example("x", "5", "9", references=("none",))
    with pytest.raises(DataError, match=r"row 'x': match 'last_number' finds nothing .*'none'"):
        measured(counting, [row], match="last_number")


def test_a_row_without_an_answer_is_answered_and_weighs_nothing(counting: Any) -> None:
    rows = [Example("open", "3"), Example("right", "5", " 6 7"), Example("wrong", "5", " 7 6")]
    seen: list[tuple[int, int]] = []
    found = measured(counting, rows, progress=lambda done, total, _: seen.append((done, total)))
    open_ended, *rest = found.items
    assert (open_ended.generated, open_ended.tokens, open_ended.nll) == ("4 5", 0, 0.0)
    assert [item.generated for item in rest] == ["6 7", "6 7"]
    scored = measured(counting, rows[1:])
    assert found.metrics == scored.metrics | {"items": 3}
    assert seen[-1] == (5, 5)
    with pytest.raises(DataError, match="none of the 1 test rows has an answer"):
        measured(counting, rows[:1])


def long_rows() -> list[Example]:
    return [Example("fits", "5", " 6 7"), Example("long", "1 " * 300 + "5", " 6 7")]


def test_a_long_prompt_is_refused_unless_a_policy_is_set(counting: Any) -> None:
    with pytest.raises(DataError, match=r"row 'long' needs 302 .*evaluate\.long_prompts to cut"):
        measured(counting, long_rows())


def test_a_cut_prompt_loses_its_beginning_but_not_the_first_token(counting: Any) -> None:
    tokenizer = tiny_tokenizer()
    limit = counting.config.max_position_embeddings
    found = measured(counting, long_rows(), long_prompts="cut")
    assert (found.cut, found.left_out) == (1, 0)
    assert [item.correct for item in found.items] == [True, True]
    words = ["1"] * 300 + ["5"]
    kept = Example("kept", " ".join(words[-(limit - 3) :]), " 6 7")
    assert len(tokenizer(kept.prompt)["input_ids"]) == limit - 2  # with its first token
    exact = measured(counting, [kept])
    assert found.items[1].nll == pytest.approx(exact.items[0].nll, abs=1e-6)


def test_a_long_row_may_be_left_out_and_is_counted(counting: Any) -> None:
    found = measured(counting, long_rows(), long_prompts="leave-out")
    assert (found.cut, found.left_out) == (0, 1)
    assert [item.id for item in found.items] == ["fits"]
    with pytest.raises(DataError, match="none of the 1 test rows that have an answer fits"):
        measured(counting, long_rows()[1:], long_prompts="leave-out")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is: D", "D"),
        ("B", "B"),
        ("(C) because", "C"),
        ("A cat? The answer is (B).", "B"),
        ("ANSWER IS **E**", "E"),
        ("Both A and C", "A"),
        ("I'd say none", ""),
        ("The answer is Canada, D", "D"),
        ("", ""),
    ],
)
def test_the_letter_of_an_option(text: str, found: str) -> None:
    assert letter(text) == found
