"""From stored results to the page's data, on small made ones."""

import pytest

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metrics import REPORTED, metrics_of
from paraknow_core.report.page import collect
from paraknow_core.report.page.data import Cost


def item(identity: str, *, correct: bool) -> Item:
    return Item(identity, "p", "a", 1.0, 1, "g", "g", "a", correct)


def test_curves_average_the_steps_that_every_seed_has() -> None:
    logs = [
        [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval_loss": 9.0}],
        [{"step": 1, "loss": 5.0}, {"step": 2, "loss": 1.0}, {"step": 3, "loss": 0.0}],
    ]
    (train,) = collect.curves_of("m", logs)
    assert (train.split, train.steps, train.seeds) == ("train", (1, 2), 2)
    assert (train.mean, train.low, train.high) == ((4.0, 1.5), (3.0, 1.0), (5.0, 2.0))
    assert [c.split for c in collect.curves_of("m", logs[:1])] == ["train", "validation"]
    assert collect.curves_of("m", []) == ()


def test_the_curve_of_another_loss_is_that_of_the_answers() -> None:
    (train,) = collect.curves_of("m", [[{"step": 1, "loss": 0.3, "answer_loss": 3.0}]])
    assert train.mean == (3.0,)


def test_costs_count_each_result_once() -> None:
    found = collect.costs_of(
        [
            ("sensitivity", "a", 4.0, False),
            ("tune", "b", 1.0, True),
            ("tune", "b", 1.0, True),
            ("tune", "c", 2.0, False),
        ]
    )
    assert found == (
        Cost(step="sensitivity", seconds=4.0, runs=1, reused=0),
        Cost(step="tune", seconds=3.0, runs=2, reused=1),
    )


def test_predictions_prefer_rows_the_methods_disagree_about() -> None:
    one = [item("1", correct=True), item("2", correct=True), item("3", correct=False)]
    two = [item("1", correct=True), item("2", correct=False), item("3", correct=False)]
    found = collect.predictions_of({"a": one, "b": two}, count=2)
    assert [row.id for row in found] == ["1", "2"]
    assert [row.id for row in collect.predictions_of({"a": one, "b": two}, count=1)] == ["2"]
    assert [(a.method, a.correct) for a in found[1].answers] == [("a", True), ("b", False)]
    assert collect.predictions_of({}) == ()
    with pytest.raises(ValueError, match="shorter"):
        collect.predictions_of({"a": one, "b": two[:1]})


def test_score_and_trials() -> None:
    metrics = [{"answer_nll": 1.0, "exact_match": 0.5}, {"answer_nll": 2.0, "exact_match": 1.0}]
    score = collect.score_of(
        "m",
        metrics,
        metrics=metrics_of(REPORTED[::2], "answer_nll"),
        learning_rate=0.1,
        chosen_from=5,
    )
    assert (score.mean, score.values, score.beside) == (1.5, (1.0, 2.0), {"exact_match": 0.75})
    trials = collect.trials_of("m", {2e-3: 1.0, 1e-3: None}, chosen=2e-3)
    assert [(t.learning_rate, t.value, t.chosen) for t in trials] == [
        (1e-3, None, False),
        (2e-3, 1.0, True),
    ]


def test_what_is_no_window_is_left_out() -> None:
    assert collect.windows_of([{"role": "q", "row": None, "col": 3}], _NoTensors()) == ()  # type: ignore[arg-type]


class _NoTensors:
    tensors = ()
