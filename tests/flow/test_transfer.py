"""The whole way on a tiny pair: what is computed, what is reused, what is delivered."""

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import PeftModel
from support.pair import pair_settings
from transformers import AutoModelForCausalLM

from flows.config.transfer import TransferConfig
from flows.transfer import StepResult, TransferResult, transfer
from paraknow_core.lora.anchored_model import quiet_peft
from tasks.engine.stage import Stage

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def run(settings: dict[str, Any], until: Stage = Stage.REPORT) -> TransferResult:
    return transfer(TransferConfig.model_validate(settings), until)


def changed(settings: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    settings = copy.deepcopy(settings)
    *parents, last = place.split(".")
    below = settings
    for parent in parents:
        below = below.setdefault(parent, {})
    below[last] = value
    return settings


@pytest.fixture(scope="module")
def settings(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return pair_settings(pair, tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def first(settings: dict[str, Any], prefect_server: None) -> TransferResult:
    return run(settings)


def computed(result: TransferResult) -> set[str]:
    return {step.name for step in result.steps if step.status == "computed"}


def step(result: TransferResult, name: str) -> StepResult:
    return next(step for step in result.steps if step.name == name)


def test_first_run_computes_every_step_and_second_none(
    settings: dict[str, Any], first: TransferResult
) -> None:
    assert computed(first) == {step.name for step in first.steps}
    second = run(settings)
    assert computed(second) == set()
    assert [s.artifact for s in second.steps] == [s.artifact for s in first.steps]
    assert second.summary == first.summary


START = {"finetune transfer", "evaluate transfer", "report"}
BOTH_ARMS = START | {"plain lora", "finetune plain", "evaluate plain"}
FROM_LAYERS = BOTH_ARMS | {"student", "align", "extract", "decompose", "lora", "evaluate vanilla"}


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("student.model", "other", FROM_LAYERS),
        ("lora.rank", 2, BOTH_ARMS | {"lora"}),
        ("lora.split", "sqrt", START | {"lora"}),
        ("finetune.seed", 1, BOTH_ARMS),
        ("finetune.learning_rate", 1e-3, START),
        ("baseline.learning_rate", 1e-3, {"finetune plain", "evaluate plain", "report"}),
        ("align.strategy", "last", START | {"align", "extract", "decompose", "lora"}),
        ("run.threads", 2, set()),
        ("name", "another-name", set()),
        ("evaluate.batch_size", 5, set()),
    ],
)
def test_a_change_recomputes_only_what_hangs_on_it(
    settings: dict[str, Any],
    first: TransferResult,
    pair: Path,
    place: str,
    value: object,
    expected: set[str],
) -> None:
    value = str(pair / "other") if place == "student.model" else value
    assert computed(run(changed(settings, place, value))) == expected


def test_the_same_model_elsewhere_is_the_same_model(
    settings: dict[str, Any], first: TransferResult, pair: Path, tmp_path: Path
) -> None:
    copy_of = tmp_path / "copied-teacher"
    copy_of.mkdir()
    for file in (pair / "teacher").iterdir():
        (copy_of / file.name).write_bytes(file.read_bytes())
    assert computed(run(changed(settings, "teacher.model", str(copy_of)))) == set()


def test_until_stops_after_the_stage(settings: dict[str, Any], tmp_path: Path) -> None:
    elsewhere = changed(settings, "run.store", str(tmp_path))
    result = run(elsewhere, Stage.LORA)
    assert [s.name for s in result.steps][-3:] == ["decompose", "lora", "plain lora"]
    assert result.summary is None


def test_the_delivered_adapter_loads_in_two_lines_on_the_unmodified_student(
    first: TransferResult, pair: Path
) -> None:
    folder = step(first, "finetune transfer").folder
    base = AutoModelForCausalLM.from_pretrained(pair / "student")
    with quiet_peft():
        tuned = PeftModel.from_pretrained(base, folder)
    assert tuned.peft_config["default"].r == 8
    ids = torch.tensor([[1, 7, 9, 11, 13]])
    with torch.no_grad():
        moved = (tuned(ids).logits - _vanilla(pair)(ids).logits).abs().max()
    assert 0 < float(moved) < 10


def _vanilla(pair: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(pair / "student")


def test_items_and_metrics_agree(first: TransferResult) -> None:
    items = pd.read_parquet(Path(step(first, "evaluate plain").folder) / "items.parquet")
    assert first.summary is not None
    metrics: Any = first.summary["metrics"]
    nll = items["nll"].sum() / items["tokens"].sum()
    assert metrics["plain"]["answer_nll"] == pytest.approx(nll, rel=1e-9)
    assert len(items) == metrics["plain"]["items"] == 16


def test_start_point_energy_and_layers_are_reported(first: TransferResult) -> None:
    assert first.summary is not None
    decomposition: Any = first.summary["decomposition"]
    assert decomposition["matrices"] == 2 + 2 * 7
    assert 0 < decomposition["energy_least"] <= decomposition["energy_mean"] <= 1
    layers: Any = first.summary["layers"]
    assert layers == sorted(layers)
    assert len(layers) == 2
