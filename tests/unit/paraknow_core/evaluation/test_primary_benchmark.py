"""Which metrics of a benchmark a verdict can be about."""

from typing import Any

import pytest
from pydantic import ValidationError

from flows.config.compare import CompareConfig
from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.benchmarks.primary import (
    check_primary,
    is_right_or_wrong,
    questions_of,
)
from paraknow_core.evaluation.metric import as_measured, metric_of_benchmark
from paraknow_core.evaluation.metrics import METRICS, metrics_of, on_test_split
from tasks.evaluate import EvaluateConfig


def task(output: str = "generate_until", questions: int = 5, **definition: Any) -> dict[str, Any]:
    return {"definition": definition, "output": output, "questions": questions}


def group(*aggregation: dict[str, Any]) -> dict[str, Any]:
    tasks = {"a": task("multiple_choice"), "b": task("multiple_choice", 20)}
    return {"name": "all", "tasks": tasks, "groups": {"all": {"aggregation": list(aggregation)}}}


def single(**definition: Any) -> dict[str, Any]:
    return {"name": "one", "tasks": {"one": task(**definition)}, "groups": {}}


FILTERED = single(filter_list=[{"name": "strict"}, {"name": "flexible"}])
BLEU = {"metric_list": [{"metric": "bleu"}, {"metric": "em", "aggregation": "mean"}]}


@pytest.mark.parametrize(
    ("described", "name"),
    [
        (single(), "one:exact_match"),
        (FILTERED, "one 5-shot:exact_match,strict"),
        (group({"metric": "acc", "weight_by_size": True}), "all:acc"),
        ({**group(), "name": "b"}, "b:acc_norm"),
        (single(**BLEU), "one:em"),
        (single(**{"class": "made"}), "one:whatever"),
    ],
)
def test_a_mean_over_questions_can_be_primary(described: dict[str, Any], name: str) -> None:
    check_primary(described, name)


@pytest.mark.parametrize(
    ("described", "name", "said"),
    [
        (
            single(),
            "one:acc",
            "has no metric 'acc' .did you mean 'one:exact_match'.*; it has exact_",
        ),
        (FILTERED, "one:exact_match", "did you mean 'one:exact_match,(strict|flexible)'"),
        (
            group({"metric": "acc"}, {"metric": "acc_norm", "weight_by_size": False}),
            "all:acc_norm",
            "all counts its tasks alike in acc_norm, .* no mean over questions; take acc",
        ),
        (single(**BLEU), "one:bleu", "bleu is no mean over questions .bleu.; take em"),
        ({**group(), "name": "tag"}, "tag:acc", "it has none of its own; name one of its tasks"),
    ],
)
def test_what_has_no_pairs_of_questions_cannot(
    described: dict[str, Any], name: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"evaluate.primary is {name}, but .*{said}"):
        check_primary(described, name)


def test_questions_are_counted_as_they_are_asked() -> None:
    assert (questions_of(group(), None), questions_of(group(), 7)) == (25, 12)
    assert is_right_or_wrong("gsm8k 8-shot:exact_match,strict-match")
    assert not is_right_or_wrong("super_ni:rougeL")


def test_a_benchmarks_metric_is_found_by_its_name_and_never_listed() -> None:
    known = dict(METRICS)
    found = METRICS.choose("gsm8k 8-shot:exact_match,strict-match")
    assert (found.source, found.label) == (
        "gsm8k 8-shot",
        "gsm8k 8-shot exact_match,strict-match",
    )
    assert dict(METRICS) == known
    assert metrics_of(["perplexity", "exact_match"], found)[0] is found
    assert on_test_split(found.name) is METRICS["answer_nll"]
    assert on_test_split("exact_match") is METRICS["exact_match"]
    assert [metric_of_benchmark(name) for name in ("acc", ":acc", "gsm8k: ")] == [None] * 3
    with pytest.raises(ConfigError, match=r"unknown metric 'exact' .did you mean 'exact_match'"):
        METRICS.choose("exact")
    right = as_measured(found, [0.0, 1.0], higher_is_better=True)
    assert (right.is_binary, right.margin) == (True, 0.02)
    partly = as_measured(found, [0.0, 0.5], higher_is_better=False)
    assert (partly.is_binary, partly.margin, partly.higher_is_better) == (False, None, False)


def test_a_benchmark_that_is_not_measured_is_refused_with_the_nearest() -> None:
    given = {"tasks": ["hellaswag", {"task": "gsm8k", "shots": 8}]}
    how = EvaluateConfig.model_validate(
        given | {"primary": "gsm8k 8-shot:exact_match,strict-match"}
    )
    assert (how.primary_benchmark, how.metrics) == (1, EvaluateConfig().metrics)
    assert EvaluateConfig().primary_benchmark is None
    with pytest.raises(ValidationError, match=r"not among .*: hellaswag, .*'gsm8k 8-shot'"):
        EvaluateConfig.model_validate(given | {"primary": "gsm8k:exact_match,strict-match"})
    with pytest.raises(ValidationError, match=r"not among evaluate.tasks: they are empty"):
        EvaluateConfig(primary="mmlu:acc")
    with pytest.raises(ValidationError, match="unknown metric 'hellaswag:acc'"):
        EvaluateConfig(metrics=("hellaswag:acc",))


def test_step_zero_is_refused_where_the_verdict_is_about_a_benchmark() -> None:
    given = {
        "pairs": [{"name": "p", "teacher": {"model": "t"}, "student": {"model": "s"}}],
        "tasks": [{"name": "own", "data": {"rows": {"path": "rows.jsonl"}}}],
        "settings": {"evaluate": {"tasks": ["hellaswag"], "primary": "hellaswag:acc_norm"}},
        "margins": {"hellaswag:acc_norm": 0.01},
    }
    CompareConfig.model_validate(given)
    with pytest.raises(ValidationError, match="task own: the verdict is about hellaswag:acc_norm"):
        CompareConfig.model_validate(given | {"proof": {"step_zero": True}})
