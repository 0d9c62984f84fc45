"""Train a start point on the task; deliver one ordinary PEFT adapter on the unmodified student."""

import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from paraknow_core.data import read_split, tokenise_all
from paraknow_core.errors import DivergedError
from paraknow_core.finetuning.recipe import FineTuningRecipe, examples_at_once
from paraknow_core.inspection.cost import adapters_in_model, training_bytes, training_work
from paraknow_core.inspection.work import Work
from paraknow_core.models.describe import Architecture
from paraknow_core.progress import Progress
from paraknow_core.setting_types import Tokens
from tasks.checks.cut_rows import tell_cut
from tasks.checks.divergence import DIVERGED
from tasks.checks.preflight import check_processes
from tasks.engine.devices.turn import gpus_of
from tasks.engine.estimates import (
    Estimate,
    Foreseen,
    answers_at_once,
    bytes_each,
    longest_row,
    rows_of,
    tokens_of,
)
from tasks.engine.json_files import finite, read_json, write_json
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

if TYPE_CHECKING:
    from paraknow_core.finetuning.finetune import TrainingResult

TARGETS = "targets"
"""The input that holds a teacher's outputs, of a training that learns from them."""
_FLOAT32 = 4
"""Bytes of an adapter's weight."""


class FinetuneConfig(FineTuningRecipe):
    """The recipe, and how much of an example is read."""

    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each example.")


def _compute(job: Job[FinetuneConfig]) -> Facts:
    """Train from W − B₀A₀ + BA, and prove that the delivered adapter is the trained model.

    A training that diverges gives its log and the reason, and no adapter.
    """
    from paraknow_core.finetuning.reporters import Reporting
    from paraknow_core.models.load import load_tokenizer, pick_device

    config, student = job.config, job.locations["student"]
    tokenizer = load_tokenizer(student)
    rows = read_split(job.inputs["data"] / "train.parquet")
    held = read_split(job.inputs["data"] / "validation.parquet")
    training = tokenise_all(rows, tokenizer, cutoff=config.cutoff)
    cut = tell_cut(training, label=job.label, split="train")
    validation = None
    if held:
        judged = tokenise_all(held, tokenizer, cutoff=config.cutoff)
        tell_cut(judged, label=job.label, split="validation")
        validation = judged.examples
    try:
        result = _train(
            job,
            student_folder=student,
            start_folder=job.inputs["start"],
            train=training.examples,
            validation=validation,
            targets_folder=job.inputs.get(TARGETS),
            out_folder=job.out,
            partial=job.partial,
            recipe=config,
            device=pick_device(job.run.device),
            reporting=Reporting(job.run.report_to, _reports(job.run), job.label),
        )
    except DivergedError as error:
        return _diverged(job, error) | cut
    write_json(job.out / "load_back.json", asdict(result.load_back))
    losses = [row["eval_loss"] for row in result.rows if "eval_loss" in row]
    stopped: Facts = {}
    if config.early_stopping is not None:
        stopped = {"best_step": result.best_step, "epochs_done": result.epochs}
        losses = [min(losses)]
    return stopped | {
        "steps": result.steps,
        "rank": result.adapter.rank,
        "resumed_from": result.resumed_from,
        "validation_nll": losses[-1] if losses else None,
        **cut,
        "load_back": result.load_back.max_difference,
        "tokens": config.epochs * sum(len(row.input_ids) for row in training.examples),
    }


def _train(job: Job[FinetuneConfig], **given: Any) -> "TrainingResult":
    """Train in this process, or in as many others as share each batch."""
    from paraknow_core.finetuning.finetune import TrainingResult
    from paraknow_core.finetuning.finetune import finetune as train
    from paraknow_core.lora.adapter_reader import read_adapter
    from tasks.engine.devices.ranks import run_in_ranks

    count = job.config.processes
    if count == 1:
        return train(progress=job.progress, **given)
    # Where a step is sent elsewhere, nobody has asked before what is there.
    check_processes({}, {}, processes=count, run=job.run)
    found = run_in_ranks(
        _train_rank,
        count=count,
        gpus=gpus_of(os.environ, count) if given["device"] == "cuda" else (),
        progress=job.progress,
        **given,
    )
    return TrainingResult(adapter=read_adapter(job.out), **found)


def _train_rank(progress: Progress, **given: Any) -> dict[str, Any]:
    """Train in one of several processes; the adapter is in the output folder."""
    import torch

    from paraknow_core.finetuning.finetune import finetune as train

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if given["device"] == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # else all would open the first one
    result = train(progress=progress, **given)
    return {f.name: getattr(result, f.name) for f in fields(result) if f.name != "adapter"}


def _devices(config: FinetuneConfig) -> int:
    return config.processes


def _reports(run: RunConfig) -> Path:
    return Path(run.report_folder or "reports").expanduser()


def _diverged(job: Job[FinetuneConfig], error: DivergedError) -> Facts:
    """Keep what there is of a training that has no adapter."""
    from paraknow_core.finetuning.finetune import LOG, write_log

    for path in job.out.iterdir():
        path.unlink()
    rows = [{name: finite(value) for name, value in row.items()} for row in error.rows]
    write_log(job.out / LOG, rows)
    write_json(job.out / DIVERGED, {"reason": str(error)})
    return {"steps": len(rows), "validation_nll": None, "diverged": str(error)}


def _numerics(config: FinetuneConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": config.compute_dtype, "device": run.device_type(), "tf32": False}


def _estimate(config: FinetuneConfig, known: Foreseen) -> Estimate:
    """The student, a batch, and for each adapter weight itself, a gradient and two moments."""
    student, rows = known.architecture("student"), examples_at_once(config)
    adapter = known.sizes.get("start", 0)
    targets = known.sizes.get(TARGETS, 0)
    tokens = tokens_of(known, "train")
    # Two checkpoints of weights and moments while it trains, then the adapter at twice the rank.
    return Estimate(
        memory_bytes=targets
        + training_bytes(
            student,
            element_bytes=bytes_each(config.compute_dtype),
            adapter_bytes=adapter,
            tokens=rows * longest_row(known, "train", cutoff=config.cutoff),
            predicted=answers_at_once(known, "train", rows=rows, cutoff=config.cutoff),
            longest=longest_row(known, "train", cutoff=config.cutoff),
            recomputed=config.gradient_checkpointing,
            quantised=config.quantise != "none",
        ),
        disk_bytes=8 * adapter if adapter else None,
        tokens=None if tokens is None else tokens * config.epochs,
        work=_work(config, known, student, adapter=adapter),
    )


def _work(
    config: FinetuneConfig, known: Foreseen, student: Architecture, *, adapter: int
) -> Work | None:
    """Training, a second forward pass where activations are recomputed, validation each epoch."""
    rows, tokens = rows_of(known, "train"), tokens_of(known, "train")
    if rows is None or tokens is None:
        return None
    in_model = adapters_in_model(
        bytes_each(config.compute_dtype), quantised=config.quantise != "none"
    )
    again = tokens * config.gradient_checkpointing + (tokens_of(known, "validation") or 0)
    return training_work(
        student,
        rows=config.epochs * rows,
        tokens=config.epochs * tokens,
        batch=examples_at_once(config),
        adapter_parameters=in_model * adapter // _FLOAT32,
        without_gradient=config.epochs * again,
    )


def _show(ref: Ref, folder: Path) -> None:
    """Say that there is no adapter, after a hit as after a computation."""
    if (folder / DIVERGED).is_file():
        logger.warning("%s %s", ref.label, read_json(folder / DIVERGED)["reason"])


finetune = Step(
    name="finetune",
    stage=Stage.FINETUNE,
    version=1,
    compute=_compute,
    reads={
        "student": ("manifest.json",),
        "start": (),
        "data": ("train.parquet", "validation.parquet"),
    },
    opens=("student",),
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    devices=_devices,
    sized_by=("student",),
    on_result=_show,
)
