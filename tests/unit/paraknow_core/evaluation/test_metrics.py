"""A metric's entry decides how values are pooled, named, and judged to be better or diverged."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from paraknow_core.errors import ConfigError, DataError, DivergedError
from paraknow_core.evaluation.items import Item, read_items, write_items
from paraknow_core.evaluation.metric import Metric, measured, per_item
from paraknow_core.evaluation.metrics import (
    LOSS,
    METRICS,
    REPORTED,
    EvaluationResult,
    check_not_diverged,
    metrics_of,
    primary_metric,
)
from paraknow_core.registry import ALL, noted_lookups
from paraknow_core.settings import identity_of
from tasks.comparison_parts.config import CellReport
from tasks.evaluate import EvaluateConfig
from tasks.report import ReportConfig

VALUES = st.floats(0, 1e6) | st.sampled_from([math.nan, math.inf])


def item(nll: float, tokens: int, *, correct: bool = False, **more: float) -> Item:
    return Item("i", "p", "a", nll, tokens, "g", "g", "a", correct, more)


def accuracy(**changes: object) -> Metric:
    """A metric of lm-evaluation-harness, by its name there."""
    given = {
        "name": "acc",
        "label": "accuracy",
        "higher_is_better": True,
        "value": measured("acc"),
        "weight": per_item,
        "is_share": True,
        "is_binary": True,
    }
    return Metric(**given | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METRICS)
def test_an_entry_says_what_everything_else_reads(name: str) -> None:
    metric = METRICS[name]
    assert metric.name == name
    assert metric.title.startswith(metric.label)
    assert metric.is_better(0.1) is metric.higher_is_better is not metric.is_better(-0.1)
    assert not metric.is_better(0.0)


@given(st.lists(st.tuples(VALUES, st.integers(1, 9), st.booleans()), min_size=1, max_size=8))
def test_values_are_pooled_as_the_slow_reference_pools_them(rows) -> None:
    items = tuple(item(nll, tokens, correct=right) for nll, tokens, right in rows)
    found = EvaluationResult(items).metrics
    tokens = sum(of.tokens for of in items)
    mean = sum(of.nll for of in items) / tokens
    mean = mean if math.isfinite(mean) else math.inf
    assert found["answer_nll"] == pytest.approx(mean)
    assert found["perplexity"] == pytest.approx(math.exp(mean) if mean < 700 else math.inf)
    assert found["exact_match"] == sum(right for *_, right in rows) / len(rows)
    assert (found["items"], found["tokens"]) == (len(rows), tokens)
    assert EvaluationResult(items).not_finite == sum(not math.isfinite(of.nll) for of in items)


def test_what_was_measured_beside_the_answer_is_kept_and_is_a_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One entry makes a metric of another evaluator's value."""
    monkeypatch.setitem(METRICS._entries, "acc", accuracy())
    items = (item(1.0, 1, acc=1.0), item(2.0, 2, acc=0.0), item(3.0, 3, acc=1.0))
    write_items(tmp_path / "items.parquet", items)
    again = tuple(read_items(tmp_path / "items.parquet"))
    assert again == items
    assert EvaluationResult(again, ("acc",)).metrics == {"acc": 2 / 3, "items": 3, "tokens": 6}
    with pytest.raises(DataError, match="item 'i' has no 'acc'; measured of it was f1"):
        EvaluationResult((item(1.0, 1, f1=0.5),), ("acc",)).metrics  # noqa: B018
    assert EvaluateConfig(primary="acc").metrics == (*REPORTED, "acc")


def test_the_worst_value_stands_for_one_that_is_not_finite() -> None:
    broken = (item(1.0, 1, acc=1.0), item(1.0, 1, acc=math.nan))
    assert accuracy().pooled(broken) == -math.inf
    assert accuracy(higher_is_better=False).pooled(broken) == math.inf


def test_divergence_is_told_by_the_metrics_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS._entries, "acc", accuracy(diverges=True))
    check_not_diverged({LOSS: 1.0, "acc": 0.5, "items": 3}, {LOSS: 1.0})
    check_not_diverged({LOSS: 1.0, "exact_match": None, "perplexity": None}, {LOSS: 1.0})
    with pytest.raises(DivergedError, match="its accuracy on test is not finite"):
        check_not_diverged({LOSS: 1.0, "acc": None}, {LOSS: 1.0})
    with pytest.raises(DivergedError, match=r"its answer NLL on test is 9, the untouched .* 1"):
        check_not_diverged({LOSS: 9.0, "acc": 0.5}, {LOSS: 1.0})
    with pytest.raises(DivergedError, match="its answer NLL on test is not finite"):
        check_not_diverged({LOSS: None})


def test_only_the_metrics_that_are_named_are_looked_up() -> None:
    """So an entry that is added makes no stored report out of date."""
    with noted_lookups() as notes:
        names = [metric.name for metric in metrics_of(("perplexity", "exact_match"), "exact_match")]
        EvaluationResult((item(1.0, 1),), ("exact_match",)).metrics  # noqa: B018
        check_not_diverged({LOSS: 1.0, "items": 1.0})
    assert names == ["exact_match", "perplexity"]
    assert notes == {"metric": {"exact_match", "perplexity", LOSS}}
    assert ALL not in notes["metric"]


def test_the_primary_metric_is_measured_and_changes_no_key_that_it_need_not() -> None:
    usual, other = EvaluateConfig(), EvaluateConfig(primary="exact_match")
    assert usual.metrics == other.metrics == REPORTED
    assert identity_of(usual) == identity_of(other)
    assert not {"primary", "metrics"} & identity_of(usual).keys()
    less = EvaluateConfig(metrics=("exact_match",))
    assert less.metrics == (LOSS, "exact_match")
    assert identity_of(less)["metrics"] == list(less.metrics)
    assert EvaluateConfig(metrics=REPORTED[::-1]) == usual
    assert not {"primary", "metrics"} & identity_of(ReportConfig()).keys()
    cell = CellReport(pair="p", task="t")
    assert not {"primary", "metrics"} & identity_of(cell).keys()
    assert identity_of(cell.model_copy(update={"primary": "exact_match"})) != identity_of(cell)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"primary": "exactmatch"}, "unknown metric 'exactmatch'.*did you mean 'exact_match'"),
        ({"primary": "perplexity"}, "metric 'perplexity' is computed from a whole split"),
        ({"metrics": ["f1"]}, "unknown metric 'f1'; known are answer_nll, perplexity, exact_match"),
        ({"metrics": ["exact_match"] * 2}, "given twice: exact_match"),
        ({"metrics": "exact_match"}, "valid tuple"),
    ],
)
def test_what_cannot_be_a_metric_is_refused_while_settings_are_read(given, message) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateConfig.model_validate(given)
    if message.startswith("metric 'perplexity'"):
        with pytest.raises(ConfigError, match="cannot be the primary one"):
            primary_metric("perplexity")
