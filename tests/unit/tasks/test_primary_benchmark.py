"""A comparison's verdict about a benchmark's metric, of made answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paraknow_core.evaluation.benchmarks.scores import (
    ANSWERS,
    SCORES,
    BenchmarkResult,
    BenchmarkScore,
    scores_json,
    write_answers,
)
from paraknow_core.evaluation.items import Item, write_items
from tasks.comparison import DATA, PAGE, comparison
from tasks.comparison_parts.config import ArmReport, CellReport, ComparisonConfig, arm_role
from tasks.engine.json_files import write_json
from tasks.engine.progress import StepProgress
from tasks.engine.run import RunConfig
from tasks.engine.step import Job

SEEDS, SIZES = tuple(range(6)), {"all_a": 30, "all_b": 10}
Value = Callable[[str, int, int], float]
"""Of a method, a seed and a question."""


def answer(task: str, doc: int, value: float) -> dict[str, Any]:
    texts = ("target", "prompt", "response", "filtered", "prompt_hash", "doc_hash", "target_hash")
    own = {"task": task, "doc_id": doc, "filter": "none", "metrics": {"m": value}}
    return dict.fromkeys(texts, "x") | own


def write_benchmark(folder: Path, value: Callable[[int], float], **score: Any) -> None:
    """The result of a group of two tasks, by their sizes."""
    places = [(task, doc) for task, size in SIZES.items() for doc in range(size)]
    answers = [answer(*place, value(n)) for n, place in enumerate(places)]
    given = {"task": "all", "metric": "m", "filter": "none", "items": 40, "members": tuple(SIZES)}
    mean = float(np.mean([one["metrics"]["m"] for one in answers]))
    scores = (BenchmarkScore(value=mean, **given | score),)
    result = BenchmarkResult("all", scores, tuple(answers), 0, "0")
    write_json(folder / SCORES, scores_json(result))
    write_answers(folder / ANSWERS, answers)


def report(folder: Path, value: Value, primary: str = "all:m", **score: Any) -> Any:
    """What a page says of two methods on one pair, and the values that went into it."""
    arms = tuple(
        ArmReport(name=n, start=n, rate=1e-3, trials=((1e-3, 1.0),), seeds=SEEDS)
        for n in ("plain", "transfer")
    )
    inputs = {}
    for place, arm in enumerate(arms):
        for seed in SEEDS:
            for what in ("items", "adapter", "benchmark1-score"):
                role = arm_role(0, place, what, seed)
                inputs[role] = folder / role
                inputs[role].mkdir(parents=True)
            test = [Item(str(n), "q", "a", 1.0, 1, "x", "x", "a", correct=False) for n in range(4)]
            write_items(inputs[arm_role(0, place, "items", seed)] / "items.parquet", test)
            log = inputs[arm_role(0, place, "adapter", seed)] / "training_log.jsonl"
            log.write_text('{"step": 1, "loss": 2.0}\n')
            of = inputs[arm_role(0, place, "benchmark1-score", seed)]
            write_benchmark(of, lambda n, a=arm.name, s=seed: value(a, s, n), **score)
    cell = CellReport(pair="p", task="t", arms=arms, primary=primary, benchmarks=("other", "all"))
    config = ComparisonConfig(name="c", cells=(cell,), wanted_seeds=SEEDS)
    (folder / "out").mkdir()
    run = RunConfig(store=str(folder / "store"))
    job = Job(config, inputs, {}, folder / "out", folder, run, StepProgress("report"))
    comparison.compute(job)
    (pair,) = json.loads((job.out / DATA).read_text())["pairs"]
    return pair | {"page": (job.out / PAGE).read_text()}


def table(value: Value, name: str) -> np.ndarray:
    return np.array([[value(name, seed, n) for n in range(40)] for seed in SEEDS])


def test_right_or_wrong_answers_are_compared_as_shares_and_by_mcnemars_test(tmp_path):
    def value(name: str, seed: int, n: int) -> float:
        # One question that only plain LoRA gets right, many that only the transfer does.
        return float(n < 4 + seed % 3) if name == "plain" else float(0 < n < 14 + seed % 2)

    pair = report(tmp_path, value)
    plain, transfer = (table(value, name) for name in ("plain", "transfer"))
    assert pair["metric"] == {
        "name": "all:m",
        "label": "all m",
        "unit": "",
        "higher_is_better": True,
        "is_share": True,
        "digits": 4,
    }
    assert [one["name"] for one in pair["beside"]] == ["answer_nll", "exact_match"]
    for score, values in zip(pair["scores"], (plain, transfer), strict=True):
        assert score["values"] == pytest.approx(values.mean(axis=1))
        assert score["beside"] == {"answer_nll": 1.0, "exact_match": 0.0}
    (contrast,) = pair["contrasts"]
    assert contrast["mean"] == pytest.approx((transfer - plain).mean())
    assert (contrast["p"], contrast["wins"]) == (2 / 2**6, 6)
    assert pair["verdict"].startswith("In all m the transfer is better than tuned plain LoRA (+0.2")
    better = (transfer.mean(axis=0) > 0.5) & ~(plain.mean(axis=0) > 0.5)
    told = "by all m with transfer alone to those with the other alone (exact McNemar): plain {}"
    told = told.format(f"{better.sum()} to 1 (p = ")
    assert sum(told in note for note in pair["notes"]) == 1
    assert "The sentence's intervals cover training seeds on these questions." in pair["notes"]
    assert "all m" in pair["page"]


def test_a_lower_value_that_is_no_share_is_the_better_one_where_the_definition_says_so(tmp_path):
    def value(name: str, seed: int, n: int) -> float:
        return (1.0 if name == "plain" else 0.8) + n / 50 + seed / 100 + (n * seed % 7) / 1000

    pair = report(tmp_path, value, higher_is_better=False)
    assert (pair["metric"]["higher_is_better"], pair["metric"]["is_share"]) == (False, False)
    (contrast,) = pair["contrasts"]
    assert (contrast["mean"], contrast["wins"]) == (pytest.approx(-0.2), 6)
    assert "In all m the transfer is better than tuned plain LoRA (-0.2" in pair["verdict"]
    assert not any("by all m" in note for note in pair["notes"])  # no McNemar's test


@pytest.mark.parametrize(
    ("primary", "score", "said"),
    [
        ("all:n", {}, "benchmark 'all' gave no one 'n'; it gave all m"),
        ("all:m", {"weighted": False}, "all:m is no mean over the questions of the benchmark"),
    ],
)
def test_what_gives_no_differences_costs_its_pair_the_verdict(tmp_path, primary, score, said):
    pair = report(tmp_path, lambda *_: 1.0, primary, **score)
    assert f"Its results cannot be judged: DataError: {said}" in pair["verdict"]
