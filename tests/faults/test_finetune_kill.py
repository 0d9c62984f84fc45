"""A fine-tuning process that dies, at a step or in the middle of a save, and is started again."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.starts import transfer_start
from support.tiny import tiny_model

from paraknow_core.adapter_files import CONFIG, WEIGHTS
from paraknow_core.training import LOG
from paraknow_core.training_checkpoints import MARKER

pytestmark = pytest.mark.faults

SCRIPT = """
import os, signal, sys
from pathlib import Path

import torch
from support.starts import token_examples
from paraknow_core.training import finetune

torch.set_num_threads(1)
folder, work, out = (Path(argument) for argument in sys.argv[1:4])
death, at = sys.argv[4:]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def at_step(done, total, message):
    if death == "step" and done == int(at):
        die()

saves = 0
save = torch.save

def half_a_save(value, path, **settings):
    # Each checkpoint calls this for the optimizer, the schedule and the random states.
    global saves
    saves += 1
    save(value, path, **settings)
    if death == "save" and saves == int(at):
        os.truncate(path, os.path.getsize(path) // 2)
        die()

torch.save = half_a_save
result = finetune(
    student_folder=folder / "student", start_folder=folder / "start", train=token_examples(30),
    validation=token_examples(5, seed=1), out_folder=out, work_folder=work, seed=3,
    learning_rate=5e-3, batch_size=6, micro_batch_size=3, epochs=2, dropout=0.2,
    checkpoint_steps=2, progress=at_step,
)
print("resumed from", result.resumed_from)
"""  # ten steps; checkpoints after 2, 4, 6 and 8


def finetune_in_a_process(folder: Path, work: Path, out: Path, *death: str) -> tuple[int, str]:
    """Exit status and last line; `death` is ("step", n) or ("save", n-th file of torch's)."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, folder, work, out, *(death or ("never", "0"))],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if ran.returncode not in (0, -signal.SIGKILL):
        pytest.fail(ran.stderr[-3000:])
    return ran.returncode, ran.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student, its start point, and `whole`: the output of a run that was left alone."""
    folder = tmp_path_factory.mktemp("run")
    tiny_model(folder / "student", "qwen2", tied=True, layers=2)
    transfer_start(folder / "student", folder / "start")
    status = finetune_in_a_process(folder, folder / "whole-work", folder / "whole")
    assert status == (0, "resumed from None")
    return folder


@pytest.mark.parametrize(
    ("death", "left", "resumed"),
    [
        (("step", "7"), ["checkpoint-4", "checkpoint-6"], 6),
        (("save", "8"), ["checkpoint-2", "checkpoint-4"], 4),  # inside checkpoint-6
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    death: tuple[str, str], left: list[str], resumed: int, folder: Path, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    status, _ = finetune_in_a_process(folder, work, out, *death)
    assert status == -signal.SIGKILL
    assert not out.exists()
    assert sorted(p.parent.name for p in work.glob(f"*/{MARKER}")) == left
    assert (work / "checkpoint-6").exists()

    assert finetune_in_a_process(folder, work, out) == (0, f"resumed from {resumed}")
    for name in (WEIGHTS, CONFIG, LOG):
        assert (out / name).read_bytes() == (folder / "whole" / name).read_bytes()
