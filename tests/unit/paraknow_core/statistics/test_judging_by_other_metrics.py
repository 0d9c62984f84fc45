"""A verdict follows its primary metric: direction, words, unit and what stands beside it."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metrics import LOSS, METRICS, REPORTED
from paraknow_core.report.transfer_summary import as_markdown, compare_arms
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.contrast import Contrast
from paraknow_core.statistics.judge import Judgement, judge

MIRRORED = "likelihood"
"""Answer NLL with the other sign, so higher is better: all that is said of it must be the same."""
SIDES = {"better": "worse", "worse": "better"}


@pytest.fixture(autouse=True, scope="module")
def mirrored():
    with pytest.MonkeyPatch.context() as patch:
        changes = {"value": lambda item: -item.nll, "higher_is_better": True, "name": MIRRORED}
        patch.setitem(METRICS._entries, MIRRORED, replace(METRICS[LOSS], **changes))
        yield


def items(nll: float, seed: int, right: float) -> list[Item]:
    draw = random.Random(f"{nll} {right} {seed}")
    losses = [nll + draw.gauss(0, 0.03) for _ in range(24)]
    return [
        Item(str(i), "q", "a", loss, 1, "x", "x", "a", draw.random() < right)
        for i, loss in enumerate(losses)
    ]


def arm(name: str, nll: float, right: float = 0.5, lost: int = 0) -> ArmResult:
    seeds = range(6)
    runs = {seed: items(nll, seed, right) for seed in seeds[lost:]}
    return ArmResult(name, name, runs, diverged=tuple(seeds[:lost]))


def outcomes(found: Judgement) -> list[tuple[str, str, int | None, float | None, str]]:
    return [(c.label, c.result, c.wins, c.p_holm, c.verdict) for c in found.contrasts]


LEVELS = st.sampled_from([1.0, 1.01, 1.2, 1.5])
NAMES = ("transfer", "plain", "pissa", "milora", "same-spectrum", "shuffled-vocabulary")


@settings(max_examples=4, deadline=None)
@given(levels=st.tuples(*[LEVELS] * 6), lost=st.tuples(*[st.sampled_from([0, 0, 0, 1, 6])] * 6))
def test_the_same_numbers_with_the_other_sign_give_the_same_verdict(levels, lost) -> None:
    arms = [arm(*each) for each in zip(NAMES, levels, [0.5] * 6, lost, strict=True)]
    low, high = judge(arms, LOSS, (LOSS,)), judge(arms, MIRRORED, (LOSS, MIRRORED))
    for one, other in zip(outcomes(low), outcomes(high), strict=True):
        assert one[:4] == other[:4]
    for one, other in zip(low.contrasts, high.contrasts, strict=True):
        assert one.mean == pytest.approx(-other.mean)
    assert (low.verdict is None) == (high.verdict is None)
    if low.verdict and high.verdict:
        assert low.verdict.teacher == high.verdict.teacher
        answers = [[(a.other, a.outcome) for a in f.verdict.answers] for f in (low, high)]
        assert answers[0] == answers[1]
    ahead = ["better than the transfer: MiLoRA" in found.sentence for found in (low, high)]
    assert ahead[0] == ahead[1]


def test_a_transfer_that_answers_rightly_more_often_is_better_in_exact_match_only() -> None:
    """Its likelihood is worse: which of the two the verdict is about, the config says."""
    arms = [arm("transfer", 1.55, 0.9), arm("plain", 1.0, 0.3), arm("milora", 1.0, 1.0)]
    by_loss, by_match = judge(arms), judge(arms, "exact_match")
    start = "In answer NLL (nats a token) the transfer is worse than tuned plain LoRA (+0.5"
    assert by_loss.sentence.startswith(start)
    start = "In exact match the transfer is better than tuned plain LoRA (+0.5"
    assert by_match.sentence.startswith(start)
    assert "better than the transfer: MiLoRA (-0.1" in by_match.sentence
    against = {c.against: c for c in by_match.contrasts if c.method == "transfer"}
    plain = against["plain"]
    assert (plain.result, plain.wins, plain.higher_is_better) == ("better", 6, True)
    assert plain.mean == pytest.approx(0.6, abs=0.1)
    assert against["milora"].result == "worse"
    assert any(
        note.startswith("Answer NLL (nats a token), transfer minus the other: plain +0.5")
        for note in by_match.notes
    )
    for found in (by_loss, by_match):
        assert sum(note.startswith("Exact match, transfer minus") for note in found.notes) == 1
        assert sum("exact McNemar): plain 2" in note for note in found.notes) == 1


def test_what_was_not_measured_is_not_told() -> None:
    found = judge([arm("transfer", 1.0), arm("plain", 1.5)], LOSS, (LOSS,))
    assert not any("xact" in note for note in found.notes)


@given(st.floats(-1, 1), st.floats(0, 1))
def test_an_interval_without_zero_is_better_on_the_metrics_side(mean: float, half: float) -> None:
    ends = {"low": mean - half, "high": mean + half}
    shared = {"label": "c", "method": "a", "against": "b", "mean": mean, **ends}
    low, high = (Contrast(**shared, higher_is_better=higher).result for higher in (False, True))
    assert high == SIDES.get(low, low)
    assert (low == "better") == (ends["high"] < 0)


def test_a_run_is_told_by_its_primary_metric() -> None:
    arms = {
        "vanilla": items(1.6, 0, 0.1),
        "plain": items(1.0, 0, 0.2),
        "transfer": items(1.5, 0, 0.95),
        "same-spectrum": items(1.0, 0, 0.2),
    }
    usual, other = compare_arms(arms), compare_arms(arms, primary="exact_match")
    assert "primary" not in usual
    assert other["primary"] == "exact_match"
    assert usual["metrics"] == other["metrics"]
    assert usual["differences"] == other["differences"]
    assert usual["verdict"].startswith("transfer is worse than plain LoRA in answer NLL (nats")
    assert other["verdict"].startswith("transfer is better than plain LoRA in exact match (+0.")
    assert "In exact match the transfer is visibly better than control: same-s" in other["verdict"]
    assert "It beats each control here" in other["verdict"]
    assert "same-spectrum is not beaten" in usual["verdict"]
    head, _, *rows = as_markdown(other).splitlines()
    assert head == "| | exact match | answer NLL (nats a token) | perplexity | items |"
    assert rows[0].startswith("| vanilla student | 0.")
    assert "| transfer minus | exact match, 95 % interval |" in as_markdown(other)
    assert as_markdown(usual).startswith("| | answer NLL (nats a token) | perplexity | exact match")


@settings(max_examples=3, deadline=None)
@given(plain=LEVELS, control=LEVELS)
def test_a_run_is_told_the_same_of_numbers_with_the_other_sign(plain, control) -> None:
    levels = {"vanilla": 1.6, "plain": plain, "transfer": 1.2, "same-spectrum": control}
    arms = {name: items(level, 0, 0.5) for name, level in levels.items()}
    low = compare_arms(arms, metrics=(LOSS,))["verdict"]
    high = compare_arms(arms, metrics=(LOSS, MIRRORED), primary=MIRRORED)["verdict"]
    for words in ("better than plain", "worse than plain", "No difference visible", "not beaten"):
        assert (words in low) == (words in high)
    assert set(compare_arms(arms, metrics=REPORTED)["metrics"]["plain"]) >= set(REPORTED)
