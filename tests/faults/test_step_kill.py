"""SIGKILL in the middle of a step: the next run goes on from what was done, to the same bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.forks import ForkServer
from support.pair import pair_settings, write_pair

pytestmark = [pytest.mark.faults, pytest.mark.figures(kills=1)]

# Runs the steps up to a goal, as the flow does, and dies when the goal has reported enough units.
RUN = """
import os, signal
import accelerate, peft, torch, transformers.trainer
import tasks.engine.computation
from flows.config.transfer import TransferConfig
from support.forks import serve
from tasks.acquire_data import acquire_data
from tasks.acquire_model import acquire_model
from tasks.finetune import finetune
from tasks.starts.lora import PlainLoraConfig, plain_lora
from tasks.sensitivity import sensitivity
from tasks.engine.run_step import run_step

torch.set_num_threads(1)

def run(settings, goal, die_after):
    config = TransferConfig.model_validate(settings)
    first_unit = []

    class Progress(tasks.engine.computation.StepProgress):
        def __call__(self, done, total, message):
            if self._label != goal:
                return
            first_unit.append(done)
            if done >= die_after > 0:
                os.kill(os.getpid(), signal.SIGKILL)

    tasks.engine.computation.StepProgress = Progress

    def step(step, settings, label, **inputs):
        return run_step(step, label=label, config=settings, inputs=inputs, run=config.run)

    data = step(acquire_data, config.data, "data")
    if goal == "sensitivity":
        teacher = step(acquire_model, config.teacher, "teacher")
        result = step(sensitivity, config.sensitivity, goal, teacher=teacher, data=data)
    else:
        student = step(acquire_model, config.student, "student")
        start = step(plain_lora, PlainLoraConfig(rank=4, alpha=4), "plain lora", student=student)
        result = step(finetune, config.finetune, goal, student=student, start=start, data=data)
    return {"tree": result.tree, "cached": result.cached, "first_unit": min(first_unit)}

serve(run)
"""


@pytest.fixture(scope="module")
def forks() -> Iterator[ForkServer]:
    with ForkServer(RUN) as forks:
        yield forks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize(
    ("goal", "changes"),
    [
        ("sensitivity", {"sensitivity": {"checkpoint_seconds": 0}}),
        (
            "finetune",
            {"finetune": {"batch_size": 4, "epochs": 2, "checkpoint_seconds": 0.001}},
        ),
    ],
)
def test_a_killed_step_goes_on_where_it_was(
    folder: Path, forks: ForkServer, tmp_path: Path, goal: str, changes: dict[str, Any]
) -> None:
    settings = pair_settings(folder, tmp_path / "store") | changes
    forks.run_to_death(settings, goal, 3)
    resumed = forks.run(settings, goal, 0)  # waits without end for a lease that is not given up
    whole = forks.run(pair_settings(folder, tmp_path / "other") | changes, goal, 0)
    assert whole["first_unit"] <= 1
    assert 2 <= resumed["first_unit"] <= 4  # what was done before the kill is not done again
    assert not resumed["cached"]
    assert resumed["tree"] == whole["tree"]
