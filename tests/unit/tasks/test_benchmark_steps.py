"""Benchmarks of lm-evaluation-harness as steps of a run, on a tiny pair."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.benchmarks import write_data, write_definitions
from support.direct import DirectTrialRunner, compare_direct, computed, run_direct
from support.fanned_here import fanned_out_here, reported
from support.pair import pair_settings, write_pair

from artifacts.names import StepKey
from artifacts.queries.lineage import Lineage
from flows.cli.results import _means
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.delivery.provenance import find_adapter, origin_of
from flows.graph import cell
from flows.graph.arm import ArmOutcome, SeedRun
from flows.planning.compare import make_compare_plan
from flows.planning.transfer import make_plan
from flows.results.conclude import conclude
from flows.results.dataset import read, results_folder, summarise
from flows.results.items import read_comparison, write_comparison
from flows.results.report_inputs import start_report
from paraknow_core.errors import DataError, ParaknowError
from paraknow_core.evaluation.benchmarks.opened import opened
from paraknow_core.evaluation.benchmarks.run import run_benchmark
from paraknow_core.evaluation.benchmarks.scores import scores_json
from paraknow_core.evaluation.benchmarks.wanted import Asking, Wanted
from paraknow_core.models.load import load_model, load_tokenizer
from tasks.engine.kept import kept, let_go
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.harness import benchmark


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


def test_a_run_measures_its_students_on_benchmarks(folder, tmp_path, monkeypatch):
    loaded = []
    load = benchmark._load
    monkeypatch.setattr(benchmark, "_load", lambda *of: loaded.append(of[0]) or load(*of))
    tasks = ["sums", {"task": "facts", "shots": 2, "limit": 5}]
    about = "facts 2-shot first 5:acc"
    given = settings(folder, tmp_path / "store", tasks=tasks, primary=about)
    refs = run_direct(given)
    assert len(loaded) == 1  # for two benchmarks of three models each
    store = TransferConfig.model_validate(given).run.open_store()
    vanilla = folder_of(store, refs["benchmark facts 2-shot first 5 vanilla"])
    scores = json.loads((vanilla / "scores.json").read_text())
    with opened(Wanted("facts", 2, folder / "definitions")) as again:
        pair = load_model(folder / "student"), load_tokenizer(folder / "student")
        fresh = run_benchmark(*pair, again, Asking(limit=5))  # no adapter was ever on this one
    assert scores["scores"] == json.loads(json.dumps(scores_json(fresh)["scores"]))
    assert [(s["task"], s["metric"], s["items"]) for s in scores["scores"][:2]] == [
        ("facts", "acc", 10),
        ("facts", "acc_norm", 10),
    ]
    answers = pq.read_table(vanilla / "answers.parquet").to_pylist()
    assert len(answers) == 10
    facts = store.lookup(StepKey(refs["benchmark sums plain"].key)).facts
    assert facts["scores"].keys() == {
        "sums exact_match,strict-match",
        "sums exact_match,flexible-extract",
    }
    report = folder_of(store, refs["report"])
    assert "| sums | exact\\_match, flexible-extract | 0 | 9 | " in (
        report / "summary.md"
    ).read_text(encoding="utf-8")
    summary = json.loads((report / "summary.json").read_text())
    assert summary["primary"] == about
    assert "in facts 2-shot first 5 acc (" in summary["verdict"].split(", 95 % interval")[0]
    rows = summary["benchmarks"]
    assert [(row["task"], row["metric"], row["filter"], row["items"]) for row in rows[:3]] == [
        ("sums", "exact_match", "strict-match", 9),
        ("sums", "exact_match", "flexible-extract", 9),
        ("facts", "acc", "none", 10),
    ]
    by_method = {score["method"]: score["mean"] for score in rows[2]["scores"]}
    assert by_method["vanilla"] == scores["scores"][0]["value"]
    for arm, score in by_method.items():
        assert summary["metrics"][arm][about] == pytest.approx(score, abs=1e-15)
    (first,) = (d for d in rows[2]["differences"] if d["against"] == "plain")
    told = summary["differences"]["plain"]
    assert {n: told[about][n] for n in ("mean", "n")} == {n: first[n] for n in ("mean", "n")}
    assert told["answer_nll"]["n"] != told[about]["n"]
    assert {(d["method"], d["against"], d["n"]) for d in rows[2]["differences"]} == {
        ("transfer", "plain", 10),
        ("transfer", "vanilla", 10),
    }
    lineage = Lineage.of(store)
    adapter = find_adapter(store, lineage, refs["finetune plain"].key)
    card = origin_of(lineage, adapter).benchmarks
    assert card["facts 2-shot first 5 acc"] == (
        scores["scores"][0]["value"],
        by_method["plain"],
    )
    assert computed(run_direct(given)) == set()


def test_what_cannot_be_run_is_refused_before_anything_is_computed(folder, tmp_path):
    def refused(match: str, *tasks: Any, primary: str = "answer_nll", **harness: Any) -> None:
        given = settings(folder, tmp_path / "store", tasks=list(tasks), primary=primary)
        given["evaluate"]["harness"] |= harness
        with pytest.raises(ParaknowError, match=match):
            make_plan(TransferConfig.model_validate(given), Stage.REPORT)

    refused(r"'sums' generates up to 256 tokens, but the student has 256", "sums", max_gen_toks=256)
    refused(r"has no chat template; take the instruction-tuned", "sums", chat_template=True)
    refused(r"9 shots are asked for, but .* has 8 examples", {"task": "sums", "shots": 9})
    refused(r"include_path '.*nowhere' is no folder", "sums", include_path="nowhere")
    refused(r"no metric 'exact_match' .did you mean 'sums:e", "sums", primary="sums:exact_match")
    store = RunConfig(store=str(tmp_path / "store")).open_store()
    assert list(store.records()) == []


def test_a_comparison_has_them_on_its_page_and_among_its_results(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("flows.planning.design.DISAGREEING", (0.9,))  # so few questions show much
    tasks, about = ["sums", {"task": "facts", "shots": 2}], "facts 2-shot:acc"
    given = settings(folder, tmp_path / "store", tasks=tasks, primary=about)
    shared = {
        name: given[name] for name in ("extract", "lora", "decompose", "finetune", "evaluate")
    }
    config = CompareConfig.model_validate(
        {
            "name": "both",
            "pairs": [{"name": "p", "teacher": given["teacher"], "student": given["student"]}],
            "tasks": [{"name": "t", "data": given["data"]}],
            "settings": shared,
            "tuning": {"seeds": [], "learning_rates": [1e-2]},
            "seeds": [1, 2],
            "run": given["run"],
        }
    )
    plan = make_compare_plan(config)
    assert any("t: 18 questions show a difference in facts 2-shot acc" in s for s in plan.visible())
    fanned = fanned_out_here(config, monkeypatch)
    outcomes = compare_direct(config)
    assert [outcome.first_reason for outcome in outcomes] == [""]
    assert reported(config, fanned) == reported(config, outcomes)
    assert all(run.scored.keys() == {0, 1} for arm in fanned[0].arms for run in arm.runs)
    do = DirectTrialRunner(config.run, Stage.REPORT)
    result = conclude(config, outcomes, lambda: start_report(config, outcomes, do))
    assert result.report_failure == ""
    assert not outcomes[0].arms[0].lost_scores
    page = Path(result.page).read_text(encoding="utf-8")
    assert "<h3>Benchmarks</h3>" in page
    assert "facts 2-shot" in Path(result.summary).read_text(encoding="utf-8")
    root = results_folder(config.run.open_store().root)
    table = summarise(read(root))
    names = ["sums exact_match,strict-match", "facts 2-shot acc"]
    assert set(names) < set(table.columns)
    assert table["facts 2-shot acc"].between(0, 1).all()
    assert set(table["primary"]) == {about}
    heads = [str(column.header) for column in _means(table).columns]
    first, *others = (heads.index(n) for n in ("facts 2-shot acc", "answer NLL", names[0]))
    assert first < min(others)
    assert write_comparison(config.run.open_store(), "both", tmp_path / "items.parquet")
    again = read_comparison(tmp_path / "items.parquet")
    (pair,) = again.pairs
    assert (pair.metric.name, pair.metric.is_share, pair.beside[0].name) == (
        about,
        True,
        "answer_nll",
    )
    assert result.verdicts == {"p on t": pair.verdict}
    means = table.set_index("method")["facts 2-shot acc"]
    assert {score.method: score.mean for score in pair.scores} == pytest.approx(dict(means))
    (contrast,) = pair.contrasts
    assert contrast.mean == pytest.approx(means["transfer"] - means["plain"], abs=1e-12)
    assert any("by facts 2-shot acc with transfer alone" in note for note in pair.notes)
    assert again.design["metric"].startswith("facts 2-shot acc on the benchmark's questions")


def test_a_seed_without_the_benchmark_that_the_verdict_is_about_has_no_result():
    def fails() -> None:
        raise DataError("no rows")

    arm, run = ArmOutcome("plain", "plain"), SeedRun(3)
    cell._score(arm, run, 0, "sums", fails, needed=False)
    assert (run.reason, arm.lost_scores) == ("", {"benchmark sums, seed 3": "DataError: no rows"})
    cell._score(arm, run, 1, "facts", fails, needed=True)
    assert run.reason == "benchmark facts: DataError: no rows"


def test_what_is_kept_is_made_again_for_other_steps_other_models_and_after_an_error():
    made = []

    def make() -> str:
        made.append("one more")
        return f"number {len(made)}"

    def used(owner: str, made_of: str) -> str:
        with kept(owner, made_of, make) as value:
            return value

    assert [used("a", "x"), used("a", "x"), used("a", "y")] == ["number 1", "number 1", "number 2"]
    let_go(but="a")
    assert used("a", "y") == "number 2"
    let_go(but="b")
    assert used("a", "y") == "number 3"
    with pytest.raises(ValueError, match="halfway"), kept("a", "y", make):
        raise ValueError("halfway")
    assert used("a", "y") == "number 4"
    let_go()
