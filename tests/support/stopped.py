"""Each step that resumes from partial results: interrupted, and its output if uninterrupted."""

import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from support.direct import run_direct
from support.pair import pair_settings, write_pair

from artifacts.store import Store
from flows.config.transfer import TransferConfig
from paraknow_core.demo import pretrain as pretraining
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from tasks.engine.computation import Computation
from tasks.engine.ref import folder_of
from tasks.engine.run_step import run_step
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Job
from tasks.finetune import FinetuneConfig
from tasks.sensitivity import SensitivityConfig
from tasks.starts.lora import PlainLoraConfig, plain_lora
from tasks.steps import STEPS
from tasks.teaching.teacher_logits import TeacherLogitsConfig

TINY = PretrainingRecipe(
    hidden_size=16, layers=1, ffn=24, heads=2, kv_heads=2, general_steps=2, task_steps=10
)


class StoppedError(BaseException):
    """Stands for whatever ends a process."""


@dataclass(frozen=True)
class Case:
    """A step that goes on from partial results."""

    label: str
    """The step's label in a transfer."""
    config: Callable[[TransferConfig], Any]
    inputs: dict[str, str] = field(default_factory=dict)
    """Role → label of the step that gives it."""
    stop: int = 3
    """At which unit of its progress it is stopped."""
    function: str = ""
    """A function that the step's code reaches."""
    step: str = ""
    """The step's name, where the case has another."""


CASES = {
    "sensitivity": Case(
        "sensitivity",
        lambda _config: SensitivityConfig(checkpoint_seconds=0),
        {"teacher": "teacher", "data": "data"},
        function="paraknow_core/sensitivity/accumulate.py:accumulate",
    ),
    "sensitivity, streamed": Case(
        "sensitivity",
        lambda _config: SensitivityConfig(checkpoint_seconds=0, streaming="always"),
        {"teacher": "teacher", "data": "data"},
        stop=21,  # samples, each in every unit
        function="paraknow_core/sensitivity/streamed/stream.py:stream",
        step="sensitivity",
    ),
    "decompose": Case(
        "decompose",
        lambda config: config.decompose,
        {"teacher": "teacher", "windows": "extract", "student": "student"},
        function="paraknow_core/svd/truncated.py:truncated_svd",
    ),
    "finetune": Case(
        "finetune",
        lambda _config: FinetuneConfig(batch_size=8, epochs=1, checkpoint_seconds=1e-9),
        {"student": "student", "start": "start", "data": "data"},
        function="paraknow_core/finetuning/finetune.py:finetune",
    ),
    "teacher-logits": Case(
        "teacher logits",
        lambda _config: TeacherLogitsConfig(batch_size=2, checkpoint_seconds=1e-9),
        {"teacher": "teacher", "student": "student", "data": "data"},
        stop=6,  # rows, two at a time
        function="paraknow_core/distillation/teacher_pass.py:teacher_targets",
    ),
    "pretrain": Case(
        "pretrain",
        lambda _config: TINY,
        stop=10,  # pre-training reports every tenth step
        function="paraknow_core/demo/pretrain.py:pretrain",
    ),
}


@dataclass
class Stopped:
    """What an interrupted computation left behind, and the output of an uninterrupted one."""

    need: Computation[Any]
    store: Store
    work: Path
    whole: dict[str, bytes]

    def job(self, work: Path) -> Job[Any]:
        folders = {role: folder_of(self.store, ref) for role, ref in self.need.inputs.items()}
        return self.need.job(folders, work)

    def left(self, work: Path) -> list[Path]:
        """What was saved, in a copy of the work folder."""
        shutil.copytree(self.work, work, symlinks=True)
        return sorted((work / "resume" / "saved").iterdir())

    def goes_on(self, work: Path) -> dict[str, bytes]:
        return compute(self.need, self.job(work))


def compute(need: Computation[Any], job: Job[Any], stop: int | None = None) -> dict[str, bytes]:
    def progress(done: int, _total: int, _message: str) -> None:
        if done == stop:
            raise StoppedError

    need.step.compute(replace(job, progress=progress))
    return {path.name: path.read_bytes() for path in job.out.iterdir()}


@contextmanager
def stopped_steps(folder: Path) -> Iterator[Callable[[str], Stopped]]:
    """Give each step's stopped computation by its name, made when it is first asked for."""
    write_pair(folder)
    settings = pair_settings(folder, folder / "store")
    config = TransferConfig.model_validate(settings)
    refs = run_direct(settings, Stage.EXTRACT)
    refs["start"] = run_step(
        plain_lora,
        label="start",
        config=PlainLoraConfig(rank=4, alpha=4),
        inputs={"student": refs["student"]},
        run=config.run,
    )

    @functools.cache
    def make(name: str) -> Stopped:
        case, store = CASES[name], config.run.open_store()
        step = STEPS[case.step or name]
        inputs = {role: refs[label] for role, label in case.inputs.items()}
        need = Computation(step, case.label, case.config(config), inputs, config.run, Source())
        made = Stopped(need, store, folder / name / "work", {})
        made.whole = compute(need, made.job(folder / name / "whole"))
        with pytest.raises(StoppedError):
            compute(need, made.job(made.work), case.stop)
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pretraining.pretrain.__kwdefaults__, "checkpoint_seconds", 0.0)
        yield make
