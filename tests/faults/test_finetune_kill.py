"""A fine-tuning process that dies, at a step or in the middle of a save, and is started again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.forks import ForkServer
from support.starts import transfer_start
from support.tiny import tiny_model

from paraknow_core.finetuning.finetune import LOG
from paraknow_core.lora.adapter import CONFIG, WEIGHTS
from paraknow_core.seals import MANIFEST

pytestmark = [pytest.mark.faults, pytest.mark.figures(kills=1)]

SCRIPT = """
import os, signal
from pathlib import Path

import accelerate, peft, torch, transformers.trainer
from support.forks import serve
from support.starts import token_examples
from paraknow_core.partial_results import PartialResults
from paraknow_core.finetuning.finetune import finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe

torch.set_num_threads(1)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def run(folder, work, out, death, at):
    folder, work, out = map(Path, (folder, work, out))
    saves, save = 0, torch.save

    def at_step(done, total, message):
        if death == "step" and done == at:
            die()

    def half_a_save(value, path, **settings):
        # Each checkpoint calls this for the optimizer, the schedule and the random states.
        nonlocal saves
        saves += 1
        save(value, path, **settings)
        if death == "save" and saves == at:
            os.truncate(path, os.path.getsize(path) // 2)
            die()

    torch.save = half_a_save
    return finetune(
        student_folder=folder / "student", start_folder=folder / "start", train=token_examples(30),
        validation=token_examples(5, seed=1), out_folder=out, partial=PartialResults(work),
        recipe=FineTuningRecipe(
            seed=3, learning_rate=5e-3, batch_size=6, micro_batch_size=3, epochs=2, dropout=0.2
        ),
        checkpoint_steps=2, progress=at_step,
    ).resumed_from

serve(run)
"""  # ten steps; checkpoints after 2, 4, 6 and 8


class Runs:
    """Fine-tuning runs; ``death`` is ("step", n) or ("save", n-th file of torch's)."""

    def __init__(self, forks: ForkServer, folder: Path) -> None:
        self.folder = folder
        self._forks = forks

    def whole(self, work: Path, out: Path) -> int | None:
        """The step that the run was resumed from."""
        resumed: int | None = self._forks.run(str(self.folder), str(work), str(out), "never", 0)
        return resumed

    def killed(self, work: Path, out: Path, *death: str | int) -> None:
        self._forks.run_to_death(str(self.folder), str(work), str(out), *death)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """A student, its start point, and `whole`: the output of a run that was left alone."""
    folder = tmp_path_factory.mktemp("run")
    with ForkServer(SCRIPT) as forks:
        tiny_model(folder / "student", "qwen2", tied=True, layers=2)
        transfer_start(folder / "student", folder / "start")
        runs = Runs(forks, folder)
        assert runs.whole(folder / "whole-work", folder / "whole") is None
        yield runs


@pytest.mark.parametrize(
    ("death", "left", "resumed"),
    [
        (("step", 7), [4, 6], 6),
        (("save", 8), [2, 4], 4),  # inside checkpoint-6
    ],
)
def test_a_killed_run_goes_on_to_the_same_bytes(
    death: tuple[str, int], left: list[int], resumed: int, runs: Runs, tmp_path: Path
) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    runs.killed(work, out, *death)
    assert not out.exists()
    assert sorted(int(p.parent.name) for p in work.glob(f"saved/*/{MANIFEST}")) == left
    assert (work / "drafts" / "checkpoint-6").exists() == (death[0] == "save")

    assert runs.whole(work, out) == resumed
    for name in (WEIGHTS, CONFIG, LOG):
        assert (out / name).read_bytes() == (runs.folder / "whole" / name).read_bytes()
