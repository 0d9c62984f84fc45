"""Trainings that report to experiment trackers, and change nothing by it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from flows.graph.runner import PrefectRunner
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning import reporters
from paraknow_core.finetuning.finetune import TrainingResult, finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.finetuning.reporters import Reporting, check_reporters
from paraknow_core.lora.adapter import WEIGHTS
from paraknow_core.partial_results import PartialResults
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage

Run = Callable[..., TrainingResult]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    transfer_start(tiny_model(folder / "student", layers=1), folder / "start")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    def with_defaults(out: str, **reporting: Any) -> TrainingResult:
        return finetune(
            student_folder=folder / "student",
            start_folder=folder / "start",
            train=token_examples(8),
            validation=token_examples(3, seed=1),
            out_folder=tmp_path / out,
            partial=PartialResults(tmp_path / f"{out} work"),
            recipe=FineTuningRecipe(learning_rate=1e-3, batch_size=4, epochs=2),
            reporting=Reporting(**{"folder": tmp_path / "reports", "name": "a/b"} | reporting),
        )

    return with_defaults


class Noted(TrainerCallback):
    """Stands for a tracker."""

    seen: list[Any]

    def on_train_begin(self, args: Any, *_: Any, **__: Any) -> None:
        self.seen.append((args.run_name, os.environ["TENSORBOARD_LOGGING_DIR"]))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        name = next((n for n in ("loss", "eval_loss") if n in logs), "")
        self.seen.append((state.global_step, name, logs.get(name)))


def test_a_tracker_gets_the_log_and_changes_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    monkeypatch.setitem(
        integration_utils.INTEGRATION_TO_CALLBACK,
        "tensorboard",
        type("Own", (Noted,), {"seen": seen}),
    )
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    quiet, told = run("quiet"), run("told", to=("tensorboard",))
    assert told.rows == quiet.rows
    one, two = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("quiet", "told"))
    assert one == two
    assert seen[0] == ("a/b", str(tmp_path / "reports" / "tensorboard" / "a-b"))
    wanted = [(r["step"], n, r[n]) for r in told.rows for n in ("loss", "eval_loss") if n in r]
    assert sorted(found for found in seen[1:] if found[1]) == sorted(wanted)
    assert "TENSORBOARD_LOGGING_DIR" not in os.environ


def test_a_place_that_the_environment_names_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "mine")
    with Reporting(("tensorboard",), tmp_path, "n").arguments() as fields:
        assert os.environ["TENSORBOARD_LOGGING_DIR"] == "mine"
        assert fields == {"report_to": ["tensorboard"], "run_name": "n"}
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == "mine"
    with Reporting().arguments() as fields:
        assert fields == {}


def test_an_absent_package_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters, "find_spec", lambda name: None if name == "mlflow" else object())
    check_reporters(("wandb",))
    settings = RunConfig.model_validate({"report_to": ["tensorboard", "mlflow"]})
    with pytest.raises(ConfigError, match="mlflow is not installed; run `pip install mlflow`"):
        PrefectRunner(settings, Stage.REPORT)


def test_tensorboards_own_files_hold_the_losses(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = run("told", to=("tensorboard",))
    found = EventAccumulator(str(tmp_path / "reports" / "tensorboard" / "a-b")).Reload()
    losses = [(event.step, event.value) for event in found.Scalars("train/loss")]
    assert losses == [(row["step"], pytest.approx(row["loss"])) for row in told.rows]
    held = [(event.step, event.value) for event in found.Scalars("eval/loss")]
    wanted = [(r["step"], pytest.approx(r["eval_loss"])) for r in told.rows if "eval_loss" in r]
    assert held == wanted


def test_wandb_offline_writes_a_run_for_each_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("one", "two"):
        run(name, to=("wandb",))
        assert wandb.run is None
    runs = list((tmp_path / "reports" / "wandb").glob("**/*.wandb"))
    assert len(runs) == 2
