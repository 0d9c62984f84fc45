"""Many methods and seeds on tiny pairs: what is shared, tuned, reported, refused, resumed."""

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.pair import pair_settings
from typer.testing import CliRunner

from artifacts.store import Store
from flows.cli.main import app
from flows.compare import compare, finished
from flows.config.compare import CompareConfig
from flows.fan_out.fan_out import fanned_out
from flows.graph.stored import StoredRunner
from flows.planning.compare import make_compare_plan
from flows.results.conclude import CompareResult, conclude
from flows.results.dataset import read, results_folder
from flows.results.items import read_comparison
from flows.results.report_inputs import start_report
from flows.server.server_settings import ServerError
from paraknow_core.errors import BudgetError, ConfigError, DataError

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def comparison(pair: Path, store: Path) -> dict[str, Any]:
    """Two students of one teacher, two methods, two rates, five seeds."""
    one = pair_settings(pair, store)
    shared = ("lora", "decompose", "finetune", "evaluate")
    return {
        "name": "tiny",
        "pairs": [
            {"name": "small", "teacher": one["teacher"], "student": one["student"]},
            {
                "name": "smaller",
                "teacher": one["teacher"],
                "student": {"model": str(pair / "other")},
            },
        ],
        "tasks": [{"name": "words", "data": one["data"]}],
        "settings": {step: one[step] for step in shared},
        "tuning": {
            "learning_rates": [1e-3, 1e-2],
            "seeds": [1000],
            "extensions": 0,
            "refine": False,
        },
        "seeds": [0, 1, 2, 3, 4],
        "slots": {"cpu": 2},
        "run": one["run"],
    }


def run(settings: dict[str, Any]) -> CompareResult:
    return finished(compare(CompareConfig.model_validate(settings), return_state=True))


@pytest.fixture(scope="module")
def settings(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return comparison(pair, tmp_path_factory.mktemp("compare") / "store")


@pytest.fixture(scope="module")
def first(settings: dict[str, Any], prefect_server: None) -> CompareResult:
    return run(settings)


def test_as_many_steps_are_computed_as_there_are_distinct_keys(settings, first):
    store = CompareConfig.model_validate(settings).run.open_store()
    records = [record.step for record in store.records()]
    assert first.computed == len(records)
    assert first.reused == 0
    assert records.count("sensitivity") == 1
    assert records.count("finetune") == 2 * 2 * (2 + 5)


def test_a_second_run_computes_nothing_and_adds_its_rows(settings, first):
    second = run(settings)
    assert second.computed == 0
    assert second.reused == first.computed
    rows = read(results_folder(CompareConfig.model_validate(settings).run.open_store().root))
    assert rows.groupby("run").size().tolist() == [20, 20]


def test_a_comparison_of_hits_needs_no_server(settings, first, tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(settings))
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # nobody is there
        result = CliRunner().invoke(app, ["compare", str(file), "--json"], catch_exceptions=False)
        other = CliRunner().invoke(app, ["compare", str(file), "--set", "seeds=[0,1,2,3,9]"])
    assert result.exit_code == 0, result.output
    assert "Prefect will not show it" in result.stderr
    told = CompareResult.model_validate_json(result.stdout)
    assert (told.computed, told.reused) == (0, first.computed)
    assert (told.verdicts, told.results, told.reasons) == (first.verdicts, first.results, [])
    unlike = ["seconds", "time"]
    here, there = (pd.read_parquet(run.rows).drop(columns=unlike) for run in (told, first))
    pd.testing.assert_frame_equal(here, there)
    assert Path(told.page).read_bytes() == Path(first.page).read_bytes()
    assert isinstance(other.exception, ServerError)


def with_fan_out(settings, **other):
    return settings | {"fan_out": {"deployment": "compare-cells/cells"}} | other


def test_what_is_looked_up_is_what_was_computed(settings, first):
    config = CompareConfig.model_validate(with_fan_out(settings))
    looked_up = fanned_out(config)  # asks no server: nothing is left to compute
    plan = make_compare_plan(config)
    assert plan.runs == []
    drawn = start_report(config, looked_up, StoredRunner(config.run))  # raises if it is not there
    assert drawn.ref.key == plan.stored_report().ref.key
    concluded = conclude(config, looked_up, plan.stored_report)
    assert (concluded.computed, concluded.reused) == (0, first.computed)
    assert concluded.verdicts == first.verdicts


def test_a_fan_out_is_planned_and_refused_before_anything_runs(settings, first, tmp_path):
    more = with_fan_out(settings, seeds=[0, 1, 2, 3, 9])
    assert make_compare_plan(CompareConfig.model_validate(more)).runs == [
        "small on words",
        "smaller on words",
    ]
    file = tmp_path / "tiny.yaml"
    file.write_text(json.dumps(more))
    planned = CliRunner().invoke(app, ["compare", str(file), "--plan"])
    assert "Fan out: 2 runs of compare-cells/cells, one for each cell" in planned.output
    unknown = CliRunner().invoke(app, ["compare", str(file)])
    assert isinstance(unknown.exception, ConfigError)
    assert "no deployment 'compare-cells/cells'" in str(unknown.exception)
    of_another = ["compare", str(file), "--set", "fan_out.deployment=compare/nightly"]
    other = CliRunner().invoke(app, of_another)
    assert "of the flow compare; cells are computed by the flow compare-cells" in str(
        other.exception
    )


def test_without_tuning_seeds_the_given_rates_are_used_and_nothing_is_tried(settings, first):
    fixed = copy.deepcopy(settings) | {"tuning": {"learning_rates": [1e-2], "seeds": []}}
    plan = make_compare_plan(CompareConfig.model_validate(fixed))
    trainings = [step for step in plan.steps if step.step == "finetune"]
    assert len(trainings) == 2 * 2 * 5
    assert all(step.key for step in plan.steps)  # no step waits for a rate
    assert {arm.rate for cell in plan.outcomes for arm in cell.arms} == {1e-2}
    assert not any(arm.trials for cell in plan.outcomes for arm in cell.arms)


def test_rows_hold_every_seed_paired(settings, first):
    rows = pd.read_parquet(first.rows)
    assert (rows["status"] == "ok").all()
    assert rows.groupby(["pair", "method"])["seed"].apply(list).map(tuple).unique().tolist() == [
        (0, 1, 2, 3, 4)
    ]
    assert rows.groupby(["pair", "method"])["learning_rate"].nunique().eq(1).all()
    assert rows["answer_nll"].notna().all()


def test_verdicts_and_tables_follow_from_the_items_alone(settings, first, tmp_path):
    path = tmp_path / "items.parquet"
    call = ["results", "--comparison", "tiny", "--items", str(path)]
    done = CliRunner().invoke(app, [*call, "--store", settings["run"]["store"]])
    assert done.exit_code == 0, done.output
    store = Store.open(Path(settings["run"]["store"]))
    (made,) = {r.tree: r for r in store.records() if r.step == "comparison"}.values()
    report = json.loads(store.file_path(made, "comparison.json").read_text())
    again = read_comparison(path)
    assert [pair.name for pair in again.pairs] == [pair["name"] for pair in report["pairs"]]
    for found, pair in zip(again.pairs, report["pairs"], strict=True):
        told = [contrast["mean"] for contrast in pair["contrasts"]]
        assert told
        assert [c.mean for c in found.contrasts] == pytest.approx(told, rel=1e-5)
        assert found.verdict.split(" (")[0] == pair["verdict"].split(" (")[0]
        assert [s.mean for s in found.scores] == pytest.approx(
            [score["mean"] for score in pair["scores"]], rel=1e-5
        )
    printed = CliRunner().invoke(app, ["results", "--from-items", str(path)])
    assert printed.exit_code == 0, printed.output
    summary = store.file_path(made, "summary.md").read_text()
    heads = [line for line in summary.splitlines() if line.startswith("#")]
    assert [line for line in printed.output.splitlines() if line.startswith("#")] == heads


def test_items_of_no_comparison_are_refused(settings, first, tmp_path):
    call = ["results", "--items", str(tmp_path / "i.parquet"), "--store", settings["run"]["store"]]
    assert "by --comparison" in str(CliRunner().invoke(app, call).exception)
    unknown = CliRunner().invoke(app, [*call, "--comparison", "tyni"])
    assert "no report of a comparison 'tyni'" in str(unknown.exception)
    assert "there are tiny" in str(unknown.exception)
    (tmp_path / "other.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="holds no comparison"):
        read_comparison(tmp_path / "other.parquet")


def test_the_plan_counts_what_is_shared(settings, first, tmp_path):
    fresh = copy.deepcopy(settings)
    fresh["run"]["store"] = str(tmp_path / "store")
    plan = json.loads(make_compare_plan(CompareConfig.model_validate(fresh)).to_json())
    assert plan["to_run"] == first.computed
    assert plan["hits"] == 0
    again = json.loads(make_compare_plan(CompareConfig.model_validate(settings)).to_json())
    assert again["to_run"] == 0
    assert again["hits"] == first.computed


def test_a_plan_says_how_many_trainings_may_come_besides(settings, tmp_path):
    fresh = copy.deepcopy(settings)
    fresh["run"]["store"] = str(tmp_path / "store")
    fresh["tuning"] |= {"seeds": [1000, 1001], "extensions": 3}
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(fresh), encoding="utf-8")
    done = CliRunner().invoke(app, ["compare", str(file), "--plan"])
    assert done.exit_code == 0, done.output
    searches = len(fresh["pairs"]) * len(CompareConfig.model_validate(fresh).arms)
    assert f"At most {searches * 3 * 2} more trainings" in done.output


def test_a_plan_beyond_its_budget_is_refused_before_anything_runs(settings, tmp_path):
    poor = copy.deepcopy(settings) | {"budget": {"steps": 20}}
    poor["run"]["store"] = str(tmp_path / "store")
    with pytest.raises(BudgetError, match=r"steps: about .*, allowed 20"):
        run(poor)
    assert not list(CompareConfig.model_validate(poor).run.open_store().records())


def test_what_fails_is_told_and_the_rest_goes_on(settings, tmp_path):
    broken = copy.deepcopy(settings)
    broken["pairs"][1]["student"]["model"] = str(tmp_path / "nowhere")
    broken["methods"] = [
        "plain",
        {"name": "too-wide", "method": "plain", "set": {"lora": {"rank": 8}}},
    ]
    result = run(broken)
    assert result.failed == 10
    assert "nowhere" in result.reasons[0]
