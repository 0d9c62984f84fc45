"""The win rate through a run's own steps, on a tiny pair and a judge on loopback."""

import json
import logging
import os
import subprocess
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from support.direct import DirectTrialRunner, compare_direct, computed, run_direct
from support.fake_judge import FakeJudge, Say, chosen, judging
from support.fanned_here import fanned_out_here, reported
from support.pair import pair_settings, write_pair

from artifacts.names import StepKey
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.transfer_steps import wire
from flows.planning.compare import make_compare_plan
from flows.planning.planner import Planner
from flows.presets.files import TaskFile, read_preset
from flows.results.conclude import conclude
from flows.results.items import read_comparison, write_comparison
from flows.results.report_inputs import start_report
from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.items import read_items
from paraknow_core.setting_errors import refusal
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage
from tasks.judging.kept import JUDGEMENT

KEY, SECRET = "JUDGE_KEY", "sk-very-secret-0123"
ARMS = ("vanilla", "plain", "transfer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def store(folder) -> Path:
    """A store in which everything but the judging is done."""
    place = folder / "store"
    run_direct(settings(folder, place, judge=None))
    return place


def settings(folder: Path, store: Path, judge, **more):
    found = pair_settings(folder, store) | {"extract": {"roles": ["head"]}} | more
    return found if judge is None else found | {"judge": judge}


def judge_at(url: str, **more):
    return {"url": url, "model": "judge-1", "first_wait": 0, "seconds": 30, "attempts": 2} | more


def judgements(store: Path, given) -> int:
    records = TransferConfig.model_validate(given).run.open_store().records()
    return sum(record.step == JUDGEMENT for record in records)


def read(given, ref, name):
    return folder_of(TransferConfig.model_validate(given).run.open_store(), ref) / name


@pytest.fixture(scope="module")
def run(folder, store):
    """A judged run, with what the judge was asked and what was logged."""
    judge, lines = FakeJudge(), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger().addHandler(handler)
    os.environ[KEY] = SECRET
    try:
        with judging(judge) as url:
            given = settings(
                folder, store, judge_at(url, key_variable=KEY, price_in=2, price_out=8)
            )
            plan = planned(given)
            refs = run_direct(given)
            again = run_direct(given)
    finally:
        del os.environ[KEY]
        logging.getLogger().removeHandler(handler)
    return given, plan, refs, again, judge, lines


def planned(given):
    config = TransferConfig.model_validate(given)
    with tempfile.TemporaryDirectory() as aside:
        planner = Planner(config.run, Stage.REPORT, Path(aside))
        wire(config, planner)
    return {step.label: step for step in planner.steps}


def test_every_arm_is_judged_and_the_report_says_how_it_came_out(run):
    given, _plan, refs, again, judge, _lines = run
    assert {label for label in refs if label.startswith("win rate")} == {
        f"win rate {arm}" for arm in ARMS
    }
    assert computed(again) == set()
    summary = json.loads(read(given, refs["report"], "summary.json").read_text())
    assert summary["metrics"]["vanilla"]["win_rate"] == 0.5
    assert "win_rate" in summary["differences"]["plain"]
    notes = {note.split(":")[0] for note in summary["notes"]}
    assert notes == {"vanilla student", "plain LoRA", "transfer"}
    text = read(given, refs["report"], "summary.md").read_text()
    assert "| win rate |" in text
    assert "95 % interval over 16 items" in text
    for arm in ARMS:
        items = read_items(read(given, refs[f"win rate {arm}"], "items.parquet"))
        before = read_items(read(given, refs[f"evaluate {arm}"], "items.parquet"))
        assert [i.generated for i in items] == [i.generated for i in before]
        rows = read(given, refs[f"win rate {arm}"], "judged.jsonl").read_text().splitlines()
        assert [json.loads(row)["win_rate"] for row in rows] == [
            i.measured["win_rate"] for i in items
        ]
    assert len(judge.asked) == judgements(Path(given["run"]["store"]), given) > 0


def test_the_plan_tells_what_judging_costs(run):
    given, plan, refs, _again, _judge, _lines = run
    need = plan["win rate transfer"].estimate
    assert plan["win rate transfer"].key == refs["win rate transfer"].key
    assert plan["win rate vanilla"].estimate.requests == 0
    assert 0 < need.requests <= 32
    assert need.tokens > 100 * need.requests  # the prompt alone is longer
    assert need.tokens_out == 16 * need.requests
    assert need.price == pytest.approx((2 * need.tokens + 8 * need.tokens_out) / 1e6)
    assert (
        planned(given | {"judge": given["judge"] | {"key_variable": ""}})[
            "win rate transfer"
        ].status
        == "cached"
    )


def test_the_key_is_sent_and_lands_nowhere(run):
    given, _plan, _refs, _again, judge, lines = run
    assert set(judge.keys) == {f"Bearer {SECRET}"}
    assert lines
    assert not [line for line in lines if SECRET in line]
    found = subprocess.run(
        ["grep", "-rlaF", SECRET, given["run"]["store"]], capture_output=True, check=False
    )
    assert (found.returncode, found.stdout) == (1, b"")


def test_where_the_judge_is_and_how_it_is_waited_for_is_in_no_key(run):
    given, _plan, refs, *_ = run
    other = judge_at("http://127.0.0.1:9/v1", attempts=9, seconds=1, at_once=2)
    assert computed(run_direct(given | {"judge": other})) == set()
    named = planned(given | {"judge": other | {"model": "judge-2"}})
    assert named["win rate transfer"].key != refs["win rate transfer"].key


def test_without_a_judge_the_run_goes_on_and_says_why(folder, store):
    given = settings(folder, store, {})
    refs = run_direct(given)
    assert not [label for label in refs if label.startswith("win rate")]
    text = read(given, refs["report"], "summary.md").read_text()
    assert "Win rate was not measured: no judge was given (judge.url).\n" in text
    assert "| win rate" not in text


def test_a_judge_that_ends_midway_loses_nothing(folder, store, caplog):
    """The report says so; the next run asks for the rest alone, and other pairs keep theirs."""
    left = [2]

    def answer(body):
        left[0] -= 1
        return chosen(body) if left[0] >= 0 else Say(drops=True)

    judge = FakeJudge(answer)
    with judging(judge) as url:
        given = settings(folder, store, judge_at(url, model="tired", at_once=1))
        before = judgements(store, given)
        with caplog.at_level(logging.WARNING, logger="paraknow"):
            refs = run_direct(given)
    text = read(given, refs["report"], "summary.md").read_text()
    told = "Win rate was not measured: the judge tired at "
    assert told in text
    assert "run again to ask for the rest alone" in text
    (line,) = [r.getMessage() for r in caplog.records if "win rate: not measured" in r.getMessage()]
    assert "questions without an answer" in line
    assert judgements(store, given) == before + 2
    judge = FakeJudge()
    with judging(judge) as url:
        given = given | {"judge": given["judge"] | {"url": url}}
        refs = run_direct(given)
    assert "| win rate |" in read(given, refs["report"], "summary.md").read_text()
    assert judgements(store, given) == before + 2 + len(judge.asked)


def test_the_rows_own_answers_or_plain_lora_may_be_the_other_side(folder, store):
    judge = FakeJudge()
    with judging(judge) as url:
        own = run_direct(settings(folder, store, judge_at(url, against="references")))
        plain = run_direct(settings(folder, store, judge_at(url, against="plain")))
    given = settings(folder, store, None)
    items = read_items(read(given, own["win rate vanilla"], "items.parquet"))
    assert [i.measured["other_length"] for i in items] == [len(i.answer) for i in items]
    record = TransferConfig.model_validate(given).run.open_store().lookup
    facts = record(StepKey(plain["win rate plain"].key)).facts
    assert (facts["win_rate"], facts["same_answers"], facts["questions_asked"]) == (0.5, 16, 0)
    assert {"answer_nll", "exact_match", "judge_unread", "judge_flipped"} <= facts.keys()


def test_the_verdict_may_be_about_the_win_rate(folder, store):
    how = {"max_new_tokens": 4, "primary": "win_rate"}
    with judging(FakeJudge()) as url:
        refs = run_direct(given := settings(folder, store, judge_at(url), evaluate=how))
    summary = json.loads(read(given, refs["report"], "summary.json").read_text())
    assert summary["primary"] == "win_rate"
    assert " in win rate (" in summary["verdict"].split(".")[0] + summary["verdict"]
    assert refs["evaluate plain"].cached  # what the evaluation measures is as before
    with pytest.raises(ValidationError, match="which a judge measures, but there is no section"):
        TransferConfig.model_validate(settings(folder, store, None, evaluate=how))
    with pytest.raises(ValidationError, match="but no judge was given"):
        TransferConfig.model_validate(settings(folder, store, {}, evaluate=how))
    dead = judge_at("http://127.0.0.1:9/v1", model="dead")
    refs = run_direct(given := settings(folder, store, dead, evaluate=how))
    summary = json.loads(read(given, refs["report"], "summary.json").read_text())
    assert "answer NLL" in summary["verdict"]


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"url": "localhost:8000"}, "judge.url: is no URL of a judge"),
        ({"url": "https://me:pw9@host/v1"}, "judge.url: may hold no user, password"),
        ({"url": "http://h", "key_variable": "sk-pw9"}, "judge.key_variable: takes the name of an"),
        ({"url": "http://h", "key_variable": "hf_pw9"}, "and never the key itself"),
        ({"url": "http://h", "key_variable": 7}, "judge.key_variable: takes the name"),
        ({"url": "http://h", "at_once": 1000}, "at most 256"),
    ],
)
def test_what_cannot_be_a_judge_is_refused(folder, store, judge, told):
    with pytest.raises(ValidationError) as caught:
        TransferConfig.model_validate(settings(folder, store, judge))
    said = str(refusal(TransferConfig, caught.value))
    assert told in said
    assert "pw9" not in said


@pytest.mark.parametrize(
    ("judge", "told"),
    [
        ({"model": ""}, "judge.model is empty, and the annotators name no model"),
        ({"annotators": "pairwize"}, "no annotator 'pairwize': known are .*pairwise"),
        ({"key_variable": "JUDGE_KEY_NOT_SET"}, "variable JUDGE_KEY_NOT_SET is not set or is"),
    ],
)
def test_what_a_judge_lacks_is_told_before_anything_runs(folder, tmp_path, judge, told):
    given = settings(folder, tmp_path / "new", judge_at("http://127.0.0.1:9/v1") | judge)
    with pytest.raises(ConfigError, match=told):
        planned(given)


def test_an_odd_key_is_not_shown(folder, tmp_path, monkeypatch):
    monkeypatch.setenv(KEY, "sk pw9\n\x01")
    given = settings(folder, tmp_path, judge_at("http://127.0.0.1:9/v1", key_variable=KEY))
    with pytest.raises(ConfigError, match="characters that no API key has") as caught:
        planned(given)
    assert "pw9" not in str(caught.value)


# -- in a comparison


def comparison(folder: Path, store: Path, judge, **more):
    given = settings(folder, store, None)
    shared = {
        name: given[name] for name in ("extract", "lora", "decompose", "finetune", "evaluate")
    }
    pair = {"name": "tiny", "teacher": given["teacher"], "student": given["student"]}
    task = {"name": "rows", "data": given["data"], "judge": {"against": "vanilla"}}
    return CompareConfig.model_validate(
        {
            "pairs": [pair],
            "tasks": [task],
            "methods": [{"name": n, "learning_rates": [3e-2]} for n in ("plain", "transfer")],
            "settings": shared,
            "tuning": {"seeds": []},
            "seeds": [0, 1],
            "allow_overlap": True,
            "run": given["run"],
            **({} if judge is None else {"judge": judge}),
            **more,
        }
    )


def concluded(config, path):
    """Compute the cells, draw the report, and judge it again from the file of its items."""
    outcomes = compare_direct(config)
    do = DirectTrialRunner(config.run, Stage.REPORT)
    result = conclude(config, outcomes, lambda: start_report(config, outcomes, do))
    assert result.report_failure == ""
    write_comparison(config.run.open_store(), config.name, path)
    return outcomes[0], result, read_comparison(path).pairs[0]


def test_a_comparison_reports_win_rates_over_items_and_seeds(folder, store, tmp_path, monkeypatch):
    judge = FakeJudge()
    with judging(judge) as url:
        config = comparison(folder, store, judge_at(url, price_in=1, price_out=1))
        plan = make_compare_plan(config)
        assert plan.judging.questions > 0
        assert plan.judging.price == pytest.approx(
            (plan.judging.tokens_in + plan.judging.tokens_out) / 1e6
        )
        assert json.loads(plan.to_json())["judging"]["unknown"] == 0
        fanned = fanned_out_here(config, monkeypatch)
        outcome, result, again = concluded(config, tmp_path / "items.parquet")
        assert make_compare_plan(config).judging is None
    assert len(judge.asked) <= plan.judging.questions
    assert reported(config, fanned) == reported(config, [outcome])
    assert outcome.verdicts.reason == ""
    assert set(outcome.verdicts.measured) == {
        f"{method} seed {seed}" for method in ("plain", "transfer") for seed in (0, 1)
    }
    text = Path(result.summary).read_text()
    for told in ("plain: win rate 0.", "transfer: win rate 0.", "95 % interval over 16 items"):
        assert told in text
    assert [note for note in again.notes if "win rate" in note]
    assert [measure.label for measure in again.beside][-1] == "win rate"
    rows = pq.read_table(result.rows).to_pylist()
    assert all(0 <= row["win_rate"] <= 1 and row["answer_nll"] > 0 for row in rows)


def test_verdicts_of_a_comparison_may_be_about_the_win_rate(folder, store, tmp_path):
    how = {"max_new_tokens": 4, "primary": "win_rate"}
    given = settings(folder, store, None)
    shared = {name: given[name] for name in ("extract", "lora", "decompose", "finetune")}
    shared["evaluate"] = how
    with judging(FakeJudge()) as url:
        config = comparison(folder, store, judge_at(url, against="plain"), settings=shared)
        outcome, _result, again = concluded(config, tmp_path / "items.parquet")
    assert again.metric.label == "win rate"
    (contrast,) = again.contrasts
    items = [
        read_items(folder_of(config.run.open_store(), run.measured.ref) / "items.parquet")
        for run in outcome.arms[1].runs
    ]
    means = [sum(i.measured["win_rate"] for i in of) / len(of) for of in items]
    assert contrast.mean == pytest.approx(sum(means) / 2 - 0.5)  # plain against itself is one half


def test_without_a_judge_a_comparison_goes_on_and_says_why(folder, store, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="paraknow"):
        outcome, result, again = concluded(
            comparison(folder, store, None), tmp_path / "items.parquet"
        )
    told = "Win rate was not measured: no judge was given (judge.url)."
    assert outcome.verdicts.note == told
    assert [r.getMessage() for r in caplog.records if told in r.getMessage()] == [
        f"tiny on rows: {told}"
    ]
    assert told in again.notes
    assert told in Path(result.summary).read_text()
    how = {"evaluate": {"max_new_tokens": 4, "primary": "win_rate"}}
    with pytest.raises(ValidationError, match="win_rate, which a judge measures"):
        comparison(folder, store, None, settings=how)


def test_a_dead_judge_costs_a_comparison_nothing_else(folder, store, tmp_path, monkeypatch):
    dead = judge_at("http://127.0.0.1:9/v1", model="dead")
    outcome, result, again = concluded(comparison(folder, store, dead), tmp_path / "items.parquet")
    assert "the judge dead at http://127.0.0.1:9/v1 left" in outcome.verdicts.note
    assert (result.failed, again.metric.label) == (0, "answer NLL")
    assert outcome.verdicts.note in again.notes
    monkeypatch.delenv("JUDGE_KEY_NOT_SET", raising=False)
    lacking = comparison(folder, store, dead | {"key_variable": "JUDGE_KEY_NOT_SET"})
    with pytest.raises(ConfigError, match="JUDGE_KEY_NOT_SET is not set"):
        make_compare_plan(lacking)


def test_the_shipped_task_says_that_it_has_no_judge_yet():
    task = read_preset(TaskFile, "alpaca_farm")
    assert task.judge is not None
    assert task.judge.lack
