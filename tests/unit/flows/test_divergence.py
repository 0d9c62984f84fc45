"""When a training counts as diverged, and that no learning rate is chosen for it."""

import json
import math
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pair import pair_settings

from flows.config.compare import ArmConfig, CompareConfig, TuningConfig
from flows.graph.arm import ArmOutcome, RateTrial, SeedRun, attempt, losses_of
from flows.graph.cell import CellOutcome
from flows.graph.runner import Handle
from flows.results.conclude import conclude
from flows.results.dataset import read, results_folder, summarise
from paraknow_core.divergence import EVEN, FACTOR, KNOWING, check_loss
from paraknow_core.errors import DivergedError, NumericsError
from paraknow_core.evaluation.items import Item
from paraknow_core.report.transfer_summary import as_markdown, compare_arms
from paraknow_core.statistics.rate_search import RateSearch
from tasks.checks.divergence import check_adapter, check_trial

LOSSES = st.one_of(
    st.none(), st.just(math.nan), st.just(math.inf), st.floats(0, 2000), st.floats(0, 20)
)


def says(nll: float | None, untouched: float | None, vocabulary: int | None = None) -> str:
    try:
        check_loss(nll, untouched=untouched, vocabulary=vocabulary, what="loss")
    except DivergedError as error:
        return str(error)
    return ""


@given(nll=LOSSES, untouched=st.floats(0.1, 12), vocabulary=st.integers(2, 200_000))
def test_a_loss_diverged_exactly_by_the_rule_that_is_told(nll, untouched, vocabulary) -> None:
    even = math.log(vocabulary)
    if nll is None or not math.isfinite(nll):
        wanted = "not finite"
    elif nll >= 700:
        wanted = "perplexity infinite"
    elif nll > FACTOR * untouched:
        wanted = "more than 2 times"
    elif nll > untouched and nll >= EVEN * even and untouched < KNOWING * even:
        wanted = "the same chance"
    else:
        wanted = ""
    told = says(nll, untouched, vocabulary)
    assert bool(told) == bool(wanted)
    assert wanted in told


def test_uniform_output_is_no_better_than_a_loss_that_exploded() -> None:
    assert says(math.log(32_000), 2.0, 32_000)
    assert says(math.log(376), 5.63, 376)
    assert not says(math.log(64), 4.3, 64)  # a student that was never trained lost nothing
    assert not says(1.9, 1.0, 32_000)  # too many epochs on too few rows, say


def test_the_error_keeps_its_log_on_its_way_from_a_worker() -> None:
    error = pickle.loads(pickle.dumps(DivergedError("diverged: so", [{"step": 1, "loss": 2.0}])))
    assert str(error) == "diverged: so"
    assert error.rows == ({"step": 1, "loss": 2.0},)


OUTCOMES = st.one_of(st.floats(0.1, 50), st.just("failed"), st.just("diverged"))
TRIALS = st.dictionaries(
    st.sampled_from([1e-3, 1e-2, 1.0, 1e3]), st.tuples(OUTCOMES, OUTCOMES), min_size=1
)


@given(TRIALS)
def test_a_rate_that_diverged_or_failed_in_any_trial_is_never_chosen(drawn) -> None:
    trials = [
        RateTrial(rate, seed, nll=outcome)
        if isinstance(outcome, float)
        # A training that diverged to a finite loss has one, however small it looks.
        else RateTrial(rate, seed, nll=0.0, diverged="diverged: its loss")
        if outcome == "diverged"
        else RateTrial(rate, seed, reason="OSError: no")
        for rate, outcomes in drawn.items()
        for seed, outcome in enumerate(outcomes)
    ]
    sound = {t.rate for t in trials} - {t.rate for t in trials if t.reason or t.diverged}
    search = RateSearch(tuple(drawn), (0, 1), halving=False, extensions=0, refine=False)
    chosen = search.best(losses_of(trials))
    assert (chosen is None) == (not sound)
    if chosen is not None:
        means = {
            rate: math.fsum(t.nll for t in trials if t.rate == rate)
            / sum(t.rate == rate for t in trials)
            for rate in sound
        }
        assert means[chosen] == min(means.values())


def test_a_trial_that_diverged_is_told_apart_from_one_that_failed() -> None:
    diverged, failed = RateTrial(1.0, 0), RateTrial(1.0, 0)

    def diverge() -> None:
        raise DivergedError("diverged: its loss is not finite")

    def fail() -> None:
        raise NumericsError("the proof failed")

    attempt(diverged, diverge)
    attempt(failed, fail)
    assert (diverged.diverged, diverged.reason) == ("diverged: its loss is not finite", "")
    assert (failed.diverged, failed.reason) == ("", "NumericsError: the proof failed")


def test_a_stored_training_is_judged_by_its_log(tmp_path: Path) -> None:
    student, adapter = tmp_path / "student", tmp_path / "adapter"
    for folder in (student, adapter):
        folder.mkdir()
    from support.tiny import tiny_model

    from paraknow_core.models.describe import describe

    described = describe(tiny_model(tmp_path / "model", layers=1))
    (student / "architecture.json").write_text(json.dumps(described.to_json()))
    known = {"student": student, "adapter": adapter}

    def log(*rows: dict[str, float]) -> None:
        (adapter / "training_log.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))

    log({"step": 1, "loss": 3.0}, {"step": 2, "loss": 9.0, "eval_loss": 3.1})
    check_trial(known, {})
    log({"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval_loss": 6.1})
    with pytest.raises(DivergedError, match=r"6\.1, the loss of its first step 3;"):
        check_trial(known, {})
    (adapter / "diverged.json").write_text('{"reason": "diverged: the loss became nan"}')
    with pytest.raises(DivergedError, match="became nan"):
        check_adapter(known, {})


def items(nll: float, count: int = 8) -> list[Item]:
    return [
        Item(str(i), "p", "a", nll + i / 100, 1, "", "", "a", correct=False) for i in range(count)
    ]


ARMS = st.sampled_from([1.0, 1.2, 5.0, 900.0, math.inf, math.nan, None])


@settings(max_examples=12)
@given(plain=ARMS, transfer=ARMS, control=ARMS)
def test_what_a_run_says_of_arms_that_diverged_is_true(plain, transfer, control) -> None:
    drawn = {"plain": plain, "transfer": transfer, "same-spectrum": control}
    arms = {name: items(nll) for name, nll in drawn.items() if nll is not None}
    stopped = {name: "diverged: the loss became nan" for name, nll in drawn.items() if nll is None}
    summary = compare_arms({"vanilla": items(2.0), **arms}, stopped)
    lost = {n for n, nll in drawn.items() if nll is None or not nll < FACTOR * 2.03}
    assert set(summary.get("diverged", {})) == lost
    compared = set() if "transfer" in lost else {"vanilla", *drawn} - lost - {"transfer"}
    assert set(summary["differences"]) == compared
    verdict = summary["verdict"]
    assert ("switched off" in verdict) is False
    assert ("nothing to compare" in verdict) == ("transfer" in lost)
    assert ("not compared with plain LoRA" in verdict) == (
        "plain" in lost and "transfer" not in lost
    )
    if "same-spectrum" in lost:
        assert "It beats each control" not in verdict
    text = as_markdown(summary)
    for name, of in (("plain", "plain LoRA"), ("transfer", "transfer")):
        row = next(line for line in text.splitlines() if line.startswith(f"| {of} "))
        assert ("not finite" in row or "diverged" in row) == (
            drawn[name] in (None, 900.0, math.inf) or math.isnan(drawn[name])
        )
    assert "nan" not in text.replace("became nan", "")
    assert "inf " not in text


@pytest.mark.parametrize("wrong", [-1e-3, 0.0, math.nan, math.inf, 1e31])
def test_a_rate_that_cannot_be_tried_is_refused_where_it_is_declared(wrong: float) -> None:
    for made in (
        lambda: ArmConfig(name="plain", learning_rates=(1e-3, wrong)),
        lambda: TuningConfig(learning_rates=(wrong,)),
    ):
        with pytest.raises(ValueError, match="learning_rates"):
            made()


def broken_report() -> Handle:
    raise ValueError("math domain error")


def test_rows_are_there_although_the_report_fails(tmp_path: Path) -> None:
    one = pair_settings(tmp_path, tmp_path / "store")
    config = CompareConfig.model_validate(
        {
            "pairs": [{"name": "p", "teacher": one["teacher"], "student": one["student"]}],
            "tasks": [{"name": "t", "data": one["data"]}],
            "controls": ["same-spectrum"],
            "run": one["run"],
        }
    )
    seeds = config.seeds
    plain = ArmOutcome("plain", "plain", rate=1e-3, runs=[SeedRun(s) for s in seeds])
    plain.runs[0].diverged = "diverged: its answer NLL on test is 90"
    plain.runs[1].reason = "OSError: no"
    lost = ArmOutcome(
        "transfer", "transfer", diverged="every learning rate that was tried diverged"
    )
    failed = ArmOutcome("same-spectrum", "same-spectrum", reason="ShapeError: no")
    cell = CellOutcome(config.pairs[0], config.tasks[0], arms=[plain, lost, failed])
    result = conclude(config, [cell], broken_report)
    assert result.report_failure == "ValueError: math domain error"
    assert (result.page, result.summary) == ("", "")
    assert (result.results, result.failed, result.diverged) == (24, 9, 9)
    frame = read(results_folder(tmp_path / "store"))
    told = frame.groupby("method")["status"].value_counts().to_dict()
    assert told == {
        ("plain", "ok"): 6,
        ("plain", "diverged"): 1,
        ("plain", "failed"): 1,
        ("transfer", "diverged"): 8,
        ("same-spectrum", "failed"): 8,
    }
    frame["answer_nll"] = [90.0 if status != "ok" else 1.0 for status in frame["status"]]
    table = summarise(frame).set_index("method")
    assert table.loc["plain", "answer_nll"] == 1.0
    assert math.isnan(table.loc["transfer", "answer_nll"])
    assert table.loc["plain", ["seeds", "failed", "diverged"]].tolist() == [6, 1, 1]
