"""The words of a report follow its numbers."""

import random

import pytest

from paraknow_core.evaluation.items import Item
from paraknow_core.methods import METHODS
from paraknow_core.report.transfer_summary import as_markdown, compare_arms


def items(shift: float, spread: float = 0.1, right: float = 0.5, n: int = 200) -> list[Item]:
    draw = random.Random(0)
    base = [draw.gauss(2.0, 0.5) for _ in range(n)]
    noise = random.Random(shift)
    return [
        Item(str(i), "p", "a", nll + shift + noise.gauss(0, spread), 1, "", "", "a", i < right * n)
        for i, nll in enumerate(base)
    ]


def test_a_clear_gain_is_called_better_and_still_not_the_teachers() -> None:
    arms = {"vanilla": items(1.0), "plain": items(0.3), "transfer": items(0.0)}
    summary = compare_arms(arms)
    assert summary["metrics"]["plain"]["answer_nll"] == pytest.approx(2.3, abs=0.1)
    assert summary["differences"]["plain"]["answer_nll"]["mean"] == pytest.approx(-0.3, abs=0.05)
    assert "transfer is better than plain LoRA in answer NLL" in summary["verdict"]
    assert "teacher" not in summary["verdict"]
    assert METHODS["same-spectrum"].missed in summary["caveats"]


def test_no_difference_and_a_loss_are_said_too() -> None:
    same = compare_arms({"vanilla": items(1.0), "plain": items(0.0), "transfer": items(0.0)})
    assert "No difference visible" in same["verdict"]
    worse = compare_arms({"vanilla": items(1.0), "plain": items(0.0), "transfer": items(0.4)})
    assert "transfer is worse than plain LoRA" in worse["verdict"]


def test_without_plain_lora_nothing_is_claimed() -> None:
    summary = compare_arms({"vanilla": items(1.0), "transfer": items(0.0)})
    assert "switched off" in summary["verdict"]
    table = as_markdown(summary)
    assert "| transfer |" in table
    assert "plain LoRA |" not in table
    assert table.count("\n- ") == 2
