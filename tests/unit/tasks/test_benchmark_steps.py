"""Benchmarks of lm-evaluation-harness as steps of a run, on a tiny pair."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.benchmarks import write_data, write_definitions
from support.direct import computed, run_direct
from support.pair import pair_settings, write_pair

from artifacts.names import StepKey
from flows.config.transfer import TransferConfig
from tasks.engine.ref import folder_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = write_pair(tmp_path_factory.mktemp("pair"))
    write_definitions(place / "definitions", write_data(place / "data"))
    return place


def settings(folder: Path, store: Path, **evaluate: Any) -> dict[str, Any]:
    found = pair_settings(folder, store) | {"extract": {"roles": ["head"]}}
    harness = {"include_path": str(folder / "definitions")}
    found["evaluate"] = found["evaluate"] | {"harness": harness} | evaluate
    return found


def test_a_run_measures_its_students_on_benchmarks(folder, tmp_path):
    tasks = ["sums", {"task": "facts", "shots": 2, "limit": 5}]
    given = settings(folder, tmp_path / "store", tasks=tasks)
    refs = run_direct(given)
    store = TransferConfig.model_validate(given).run.open_store()
    vanilla = folder_of(store, refs["benchmark facts 2-shot first 5 vanilla"])
    scores = json.loads((vanilla / "scores.json").read_text())
    assert [(s["task"], s["metric"], s["items"]) for s in scores["scores"][:2]] == [
        ("facts", "acc", 10),
        ("facts", "acc_norm", 10),
    ]
    answers = pq.read_table(vanilla / "answers.parquet").to_pylist()
    assert len(answers) == 10
    facts = store.lookup(StepKey(refs["benchmark sums plain"].key)).facts
    assert {"sums exact_match,strict-match", "sums exact_match,flexible-extract"} < facts.keys()
    report = folder_of(store, refs["report"])
    assert "| sums | exact\\_match, flexible-extract | 0 | 9 | " in (
        report / "summary.md"
    ).read_text(encoding="utf-8")
    rows = json.loads((report / "summary.json").read_text())["benchmarks"]
    assert [(row["task"], row["metric"], row["filter"], row["items"]) for row in rows[:3]] == [
        ("sums", "exact_match", "strict-match", 9),
        ("sums", "exact_match", "flexible-extract", 9),
        ("facts", "acc", "none", 10),
    ]
    by_method = {score["method"]: score["mean"] for score in rows[2]["scores"]}
    assert by_method["vanilla"] == scores["scores"][0]["value"]
    assert {(d["method"], d["against"], d["n"]) for d in rows[2]["differences"]} == {
        ("transfer", "plain", 10),
        ("transfer", "vanilla", 10),
    }
    assert computed(run_direct(given)) == set()
