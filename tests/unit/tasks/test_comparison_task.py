"""The report of a comparison whose arms, seeds or pictures fail: the rest of it stands."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from paraknow_core.evaluation.items import Item, write_items
from paraknow_core.report.page.data import Comparison
from paraknow_core.report.page.figures import sweep
from paraknow_core.settings import identity_of
from tasks.comparison import DATA, FOREST, PAGE, SUMMARY, comparison
from tasks.comparison_parts.config import (
    ALL,
    ArmReport,
    CellReport,
    ComparisonConfig,
    arm_role,
    cell_role,
)
from tasks.comparison_parts.proof_config import ProofConfig
from tasks.engine.progress import StepProgress
from tasks.engine.run import RunConfig
from tasks.engine.step import Job

SEEDS = tuple(range(6))


def items(nll: float, right: int = 2) -> list[Item]:
    return [
        Item(str(i), "q", "a", nll + i / 50, 1, "x", "x", "a", correct=i < right) for i in range(4)
    ]


def arm(name: str, seeds: tuple[int, ...] = SEEDS, **facts: Any) -> ArmReport:
    given = {"rate": 1e-3, "trials": ((1e-3, 1.0), (1e-2, 2.0)), "seeds": seeds}
    return ArmReport(name=name, start=name, **given | facts)


def job(
    folder: Path,
    *cells: CellReport,
    levels: dict[str, float] | None = None,
    right: dict[str, int] | None = None,
) -> Job:
    """A job that reads made-up items of every seed that has a result."""
    inputs = {}
    for number, cell in enumerate(cells):
        for place, of in enumerate(cell.arms):
            for seed in of.seeds:
                for what in ("items", "adapter"):
                    role = arm_role(number, place, what, seed)
                    inputs[role] = folder / role
                    inputs[role].mkdir(parents=True)
                level = (levels or {}).get(of.name, 1.0) + seed / 20
                write_items(
                    inputs[arm_role(number, place, "items", seed)] / "items.parquet",
                    items(level, (right or {}).get(of.name, 2)),
                )
                (inputs[role] / "training_log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (folder / "out").mkdir(parents=True)
    run = RunConfig(store=str(folder / "store"))
    config = ComparisonConfig(name="c", cells=cells, wanted_seeds=SEEDS)
    return Job(config, inputs, {}, folder / "out", folder, run, StepProgress("report"))


def report(given: Job) -> tuple[dict[str, str], dict[str, Any], str, str]:
    facts = comparison.compute(given)
    data = json.loads((given.out / DATA).read_text())
    return facts, data, (given.out / PAGE).read_text(), (given.out / SUMMARY).read_text()


def test_pairs_that_failed_leave_the_others_their_report(tmp_path: Path) -> None:
    why = "every learning rate that was tried diverged: 1 (its validation loss is 90)"
    lost = arm("pissa", (), rate=None, diverged={ALL: why})
    apart = (arm("transfer", (0, 1, 2), failures=failed(3, 4, 5)), arm("plain", (2, 3, 4, 5)))
    given = job(
        tmp_path,
        CellReport(pair="one", task="t", arms=(arm("transfer"), arm("plain"), lost)),
        CellReport(pair="apart", task="t", arms=apart),
        CellReport(pair="none", task="t", failure="ModelFolderError: no folder"),
        levels={"transfer": 0.5},
    )
    facts, data, page, text = report(given)
    assert facts["one on t"].startswith("In answer NLL (nats a token) the transfer is better than")
    assert (
        "not tested against PiSSA (pissa: every learning rate that was tried" in facts["one on t"]
    )
    assert "they share 1 seed with a result, and at least 2 are needed" in facts["apart on t"]
    assert facts["none on t"] == "Nothing was compared: ModelFolderError: no folder"
    for shown in (page, text):
        assert why in shown.replace("&#39;", "'").replace("\\_", "_")
        assert "OSError: no 3" in shown
    assert "No verdict was handed over" not in page
    assert any("Diverged is a training" in caveat for caveat in data["caveats"])
    assert data["pairs"][0]["scores"][2] == {
        **dict.fromkeys(("mean", "learning_rate", "flops", "teacher_flops", "seconds")),
        **{"start": "pissa", "loss": "answers"},
        **{"method": "pissa", "values": [], "chosen_from": 2, "beside": {"exact_match": None}},
    }
    assert (given.out / FOREST).is_file()


def failed(*seeds: int) -> dict[str, str]:
    return {f"seed {seed}": f"OSError: no {seed}" for seed in seeds}


def test_a_picture_that_fails_costs_only_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any) -> None:
        raise ValueError("math domain error")

    monkeypatch.setattr(sweep, "draw", broken)
    given = job(tmp_path, CellReport(pair="p", task="t", arms=(arm("transfer"), arm("plain"))))
    with caplog.at_level(logging.WARNING, logger="paraknow"):
        _, data, page, text = report(given)
    assert page.count("This picture could not be drawn") == 1
    assert f"p on t: the picture '{sweep.TITLE}' could not be drawn: ValueError" in caplog.text
    assert len(data["pairs"][0]["contrasts"]) == 1
    assert "| plain |" in text


def test_rates_that_were_not_tuned_are_said_and_carry_no_claim(tmp_path: Path) -> None:
    names = ("transfer", "plain", "same-spectrum", "shuffled-vocabulary")
    seeds = tuple(range(8))
    tuned = tuple(arm(name, seeds) for name in names)
    fixed = tuple(arm(name, seeds, rate=0.01, trials=()) for name in names)
    said: dict[str, str] = {}
    for which, arms in (("tuned", tuned), ("fixed", fixed)):
        cell = CellReport(pair="p", task="t", arms=arms)
        facts, data, page, text = report(job(tmp_path / which, cell, levels={"transfer": 0.5}))
        said[which] = facts["p on t"]
        assert facts["p on t"].count("is better than") == 1
        assert ("not tuned in this comparison" in page) == (which == "fixed")
        assert ("chosen on the validation split alone" in text) == (which == "tuned")
        assert ("transfer 0.01" in data["design"]["learning rates"]) == (which == "fixed")
    assert "owed to what the teacher learnt" in said["tuned"]
    assert "at learning rates that were fixed beforehand, the transfer is" in said["fixed"]
    assert "tuned plain" not in said["fixed"]
    assert "teacher" not in said["fixed"]


def test_the_forest_plot_that_fails_is_named_in_page_and_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_comparison: Any, path: Path) -> None:
        path.write_bytes(b"half of it")
        raise RuntimeError("math domain error")

    monkeypatch.setattr("paraknow_core.report.pictures.forest_plot", broken)
    given = job(tmp_path, CellReport(pair="p", task="t", arms=(arm("transfer"), arm("plain"))))
    with caplog.at_level(logging.WARNING, logger="paraknow"):
        _, _, page, text = report(given)
    told = "could not be drawn: RuntimeError: math domain error"
    assert all(told in shown for shown in (page, text, caplog.text))
    assert not (given.out / FOREST).exists()


def test_a_disk_that_is_full_is_no_fault_of_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_comparison: Any, _path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("paraknow_core.report.pictures.forest_plot", full)
    given = job(tmp_path, CellReport(pair="p", task="t", arms=(arm("transfer"), arm("plain"))))
    with pytest.raises(OSError, match="No space"):
        report(given)


def test_where_nothing_diverged_the_key_is_as_it_was() -> None:
    assert "diverged" not in identity_of(arm("plain"))
    assert "diverged" in identity_of(arm("plain", diverged={ALL: "so"}))


def test_page_and_tables_follow_each_cells_primary_metric(tmp_path: Path) -> None:
    arms = (arm("transfer"), arm("plain"))
    given = job(
        tmp_path,
        CellReport(pair="one", task="words", arms=arms),
        CellReport(pair="one", task="sums", arms=arms, primary="exact_match"),
        CellReport(pair="two", task="sums", failure="OSError: no", primary="exact_match"),
        levels={"transfer": 0.5},
        right={"transfer": 3},
    )
    facts, data, page, text = report(given)
    assert facts["one on words"].startswith("In answer NLL (nats a token) the transfer is better")
    assert facts["one on sums"].startswith("In exact match the transfer is better than tuned plain")
    metric = "answer NLL (nats a token) (words), exact match (sums) on the test split"
    assert data["design"]["metric"].startswith(metric)
    words, sums, lost = data["pairs"]
    assert [p["metric"]["name"] for p in (words, sums, lost)] == [
        "answer_nll",
        "exact_match",
        "exact_match",
    ]
    for pair, better in ((words, -0.5), (sums, 0.25)):
        (contrast,) = pair["contrasts"]
        assert contrast["mean"] == pytest.approx(better)
        assert contrast["wins"] == len(SEEDS)
    assert sums["scores"][0]["mean"] == words["scores"][0]["beside"]["exact_match"] == 0.75
    assert sums["scores"][0]["beside"]["answer_nll"] == words["scores"][0]["mean"]
    assert "| method | answer NLL | exact match | learning rate |" in text
    assert "| method | exact match | answer NLL | learning rate |" in text
    assert "| transfer | 0.750 | 0.6550 |" in text
    assert "in answer NLL (nats a token) below zero, in exact match above zero" in page
    assert page.count("← better") == 1
    assert page.count("better →") == 1
    assert '<td class="num" data-label="exact match">75.0 %</td>' in page
    assert page.count("answer NLL (nats a token), validation") >= 2  # rates are chosen by the loss
    assert Comparison.from_json(data).to_json() == data


def test_orders_of_pairs_and_start_points_without_training_are_told(tmp_path: Path) -> None:
    names = ("plain", "novel-tokens", "novel-random")
    cells = tuple(
        CellReport(pair=pair, task="t", arms=tuple(arm(name) for name in names))
        for pair in ("little", "most", "none")
    )
    cells = (*cells[:2], cells[2].model_copy(update={"arms": (), "failure": "OSError: no"}))
    given = job(tmp_path, *cells)
    for cell, level in enumerate((1.5, 1.2)):
        folder = tmp_path / f"teacher-{cell}"
        folder.mkdir()
        write_items(folder / "items.parquet", items(level))
        given.inputs[cell_role(cell, "teacher-items")] = folder
        given.inputs[cell_role(cell, "vanilla")] = folder
        for seed in SEEDS:
            better = given.inputs[arm_role(cell, 1, "items", seed)]
            write_items(better / "items.parquet", items(2.0 - cell - seed / 20))
            given.inputs[arm_role(cell, 1, "untrained", seed)] = better
    orders = (
        {"kind": "dose", "pairs": ("little", "most")},
        {"kind": "swap", "pairs": ("none", "most")},
    )
    proof = ProofConfig.model_validate({"step_zero": True, "orders": orders})
    asked = given.config.model_copy(update={"proof": proof})
    assert "proof" not in identity_of(given.config)
    assert "proof" in identity_of(asked)
    _, data, page, text = report(replace(given, config=asked))
    dose, swap = data["orders"]
    assert dose["teachers"] == pytest.approx([1.53, 1.23])
    assert [line["p"] for line in dose["lines"]] == [None, 2 / 2**6, None]
    assert "novel-tokens: a teacher that learnt more gives a better student" in page
    assert "Nothing was compared on none (OSError: no)." in page
    assert swap["missing"] in text
    assert "plain: the same in every pair" in text
    assert Comparison.from_json(data).orders[0].pairs == ("little", "most")
    (untrained,) = data["pairs"][1]["untrained"]
    assert (untrained["method"], untrained["better"]) == ("novel-tokens", 6)
    assert "Step 0" in text
    assert "product added" in page
    assert page.count("could not be drawn") == 0
