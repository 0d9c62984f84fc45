"""SIGKILL in the middle of a step: the next run goes on from what was done, to the same bytes."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.pair import pair_settings, write_pair

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# Runs the steps up to a goal, as the flow does, and dies when the goal has reported enough units.
RUN = """
import json, os, signal, sys
from pathlib import Path
import tasks.step
from flows.config import TransferConfig
from tasks.acquire_data import acquire_data
from tasks.acquire_model import acquire_model
from tasks.finetune import finetune
from tasks.lora import PlainLoraConfig, plain_lora
from tasks.sensitivity import sensitivity
from tasks.step import run_step

settings, goal, die_after = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = TransferConfig.model_validate(settings)
first_unit = []

class Progress(tasks.step.StepProgress):
    def __call__(self, done, total, message):
        if self._label != goal:
            return
        first_unit.append(done)
        if done >= die_after > 0:
            os.kill(os.getpid(), signal.SIGKILL)

tasks.step.StepProgress = Progress

def run(step, settings, label, **inputs):
    return run_step(step, label=label, config=settings, inputs=inputs, run=config.run)

data = run(acquire_data, config.data, "data")
if goal == "sensitivity":
    teacher = run(acquire_model, config.teacher, "teacher")
    result = run(sensitivity, config.sensitivity, goal, teacher=teacher, data=data)
else:
    student = run(acquire_model, config.student, "student")
    start = run(plain_lora, PlainLoraConfig(rank=4, alpha=4), "plain lora", student=student)
    result = run(finetune, config.finetune, goal, student=student, start=start, data=data)
print(json.dumps({"tree": result.tree, "cached": result.cached, "first_unit": min(first_unit)}))
"""


def run_until(settings: dict[str, Any], goal: str, die_after: int = 0) -> dict[str, Any] | None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(settings), goal, str(die_after)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if die_after:
        assert done.returncode == -9, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


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
    folder: Path, tmp_path: Path, goal: str, changes: dict[str, Any]
) -> None:
    settings = pair_settings(folder, tmp_path / "store") | changes
    run_until(settings, goal, die_after=3)
    began = time.monotonic()
    resumed = run_until(settings, goal)
    assert time.monotonic() - began < 60
    whole = run_until(pair_settings(folder, tmp_path / "other") | changes, goal)
    assert resumed is not None
    assert whole is not None
    assert whole["first_unit"] <= 1
    assert 2 <= resumed["first_unit"] <= 4  # what was done before the kill is not done again
    assert not resumed["cached"]
    assert resumed["tree"] == whole["tree"]
