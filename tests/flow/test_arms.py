"""Arms side by side on a tiny pair: what they share is computed once, the rest is their own."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.pair import TEACHER, pair_settings, write_base, write_rows
from support.tiny import tiny_model

from flows.config.transfer import TransferConfig
from flows.planning.transfer import make_plan
from flows.transfer import TransferResult, transfer
from paraknow_core.methods import METHODS
from tasks.engine.stage import Stage

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

SHARED = {"acquire-model": 2, "acquire-data": 1, "sensitivity": 1, "align": 1, "extract": 1}
ARMS = ("plain", "transfer", "pissa", "lora-ga", "same-spectrum", "random-teacher")


@pytest.fixture(scope="module")
def settings(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("arms")
    found = pair_settings(pair, folder / "store")
    rows = write_rows(folder / "other.jsonl", seed=9)
    other = found["data"] | {"rows": {"path": str(rows)}}
    another = tiny_model(folder / "another", **TEACHER, seed=7)
    found |= {"other_data": other, "other_teacher": {"model": str(another)}}
    return found | {"arms": list(ARMS)}


@pytest.fixture(scope="module")
def first(settings: dict[str, Any], prefect_server: None) -> TransferResult:
    return transfer(TransferConfig.model_validate(settings))


def computed(result: TransferResult) -> Counter[str]:
    return Counter(step.step for step in result.steps if step.status == "computed")


def test_steps_upstream_of_several_arms_run_once(first: TransferResult) -> None:
    assert len({step.key for step in first.steps}) == len(first.steps)
    of_random_teacher = Counter(
        {"random-model": 1, "acquire-model": 1}
        | dict.fromkeys(("sensitivity", "align", "extract", "decompose", "lora"), 1)
    )
    assert computed(first) == of_random_teacher + Counter(SHARED) + Counter(
        {"decompose": 1, "lora": 2, "plain-lora": 1, "student-start": 2, "control": 1}
        | {"finetune": len(ARMS), "evaluate": len(ARMS) + 1, "report": 1}
    )


def test_the_report_shows_every_arm_and_says_what_was_not_beaten(first: TransferResult) -> None:
    assert first.summary is not None
    summary: Any = first.summary
    assert set(summary["metrics"]) == {"vanilla", *ARMS}
    assert set(summary["differences"]) == {"vanilla", *ARMS} - {"transfer"}
    assert "does not show that the teacher's knowledge moved" in summary["verdict"]
    assert METHODS["same-spectrum"].missed not in summary["caveats"]
    text = (Path(first.steps[-1].folder) / "summary.md").read_text()
    assert text.count("control: same-spectrum |") == 2
    assert METHODS["same-spectrum"].tells in text


def test_every_method_runs_and_the_plan_then_has_nothing_left(
    settings: dict[str, Any], first: TransferResult, tmp_path: Path
) -> None:
    shutil.copytree(Path(settings["teacher"]["model"]), tmp_path / "teacher")
    more = {
        "teacher_base": {"model": str(write_base(tmp_path))},
        "arms": [m for m in METHODS if m != "novel-own"],
    }
    config = TransferConfig.model_validate(settings | more)
    before = make_plan(config, Stage.LORA)
    assert {s.step for s in before.steps if s.status == "cached"} > {"lora", "control"}
    made = computed(transfer(config, Stage.LORA))
    assert made["student-start"] == 4
    assert made["control"] == 2
    assert made["novel-tokens"] == 6  # the method and its five controls that are not refused
    assert made["signal-start"] == 12  # four methods with two controls each
    assert made["transport"] == 13  # three methods with three or four controls each
    assert made["compose"] == 23  # none of these has a start point for every role
    assert made["lora"] == 12
    assert make_plan(config, Stage.LORA).all_cached


def test_another_seed_draws_controls_anew_but_not_what_draws_nothing(
    settings: dict[str, Any], first: TransferResult
) -> None:
    arms = ["transfer", "pissa", "same-spectrum", "random-teacher"]
    again = settings | {"arms": arms, "finetune": settings["finetune"] | {"seed": 1}}
    made = computed(transfer(TransferConfig.model_validate(again), Stage.LORA))
    assert made == {"control": 1, "lora": 1}
