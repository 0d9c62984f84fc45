"""Train a start point on the task; deliver one ordinary PEFT adapter on the unmodified student."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from paraknow_core.data import read_split, tokenise_all
from paraknow_core.errors import ConfigError, DivergedError
from paraknow_core.finetuning.recipe import check_micro_batch
from paraknow_core.inspection.cost import activation_bytes, logits_bytes
from paraknow_core.setting_types import (
    BatchSize,
    CountOrNone,
    Epochs,
    LearningRate,
    Limit,
    Seconds,
    Share,
    Tokens,
    TrainingSeed,
    WeightDecay,
)
from paraknow_core.settings import Settings, execution
from tasks.checks.divergence import DIVERGED
from tasks.engine.estimates import Estimate, Foreseen, bytes_each, longest_row, tokens_of
from tasks.engine.json_files import finite, read_json, write_json
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


class FinetuneConfig(Settings):
    """How the adapter is trained; the defaults are SeeKing's (arXiv 2310.11451, §4)."""

    learning_rate: LearningRate = Field(3e-4, title="Learning rate", description="AdamW's peak.")
    epochs: Epochs = Field(3, title="Epochs")
    batch_size: BatchSize = Field(64, title="Batch size", description="Examples an optimizer step.")
    warmup_ratio: Share = Field(
        0.03, title="Warm-up ratio", description="Share of steps with a rising rate."
    )
    lr_schedule: Literal["linear", "cosine", "constant"] = Field("linear", title="Schedule")
    dropout: Share = Field(0.05, lt=1, title="Dropout", description="On the adapter's inputs.")
    weight_decay: WeightDecay = Field(0.0, title="Weight decay")
    max_grad_norm: Limit = Field(1.0, title="Gradient clipping")
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each example.")
    seed: TrainingSeed = Field(0, title="Seed", description="Of data order and dropout.")
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        title="Compute dtype",
        description="The student's; the adapter is float32 always.",
    )
    micro_batch_size: CountOrNone = execution(
        0,
        title="Micro-batch",
        description="Examples at once on the device; 0: the whole batch.",
    )
    gradient_checkpointing: bool = execution(
        False,
        title="Gradient checkpointing",
        description="Saves memory, costs a second forward pass.",
    )
    checkpoint_seconds: Seconds = execution(
        120.0,
        gt=0,
        title="Checkpoint every",
        description="Seconds; a killed run goes on from there.",
    )

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        try:
            check_micro_batch(self.batch_size, self.micro_batch_size or self.batch_size)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self


def _compute(job: Job[FinetuneConfig]) -> Facts:
    """Train from W − B₀A₀ + BA, and prove that the delivered adapter is the trained model.

    A training that diverges gives its log and the reason, and no adapter.
    """
    from paraknow_core.finetuning.finetune import finetune as train
    from paraknow_core.models.load import load_tokenizer, parse_dtype, pick_device

    config, student = job.config, job.locations["student"]
    tokenizer = load_tokenizer(student)
    rows = read_split(job.inputs["data"] / "train.parquet")
    held = read_split(job.inputs["data"] / "validation.parquet")
    training = tokenise_all(rows, tokenizer, cutoff=config.cutoff)
    validation = tokenise_all(held, tokenizer, cutoff=config.cutoff).examples if held else None
    try:
        result = train(
            student_folder=student,
            start_folder=job.inputs["start"],
            train=training.examples,
            validation=validation,
            out_folder=job.out,
            partial=job.partial,
            seed=config.seed,
            learning_rate=config.learning_rate,
            batch_size=config.batch_size,
            micro_batch_size=config.micro_batch_size or None,
            epochs=config.epochs,
            warmup_ratio=config.warmup_ratio,
            lr_schedule=config.lr_schedule,
            dropout=config.dropout,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            dtype=parse_dtype(config.compute_dtype),
            device=pick_device(job.run.device),
            gradient_checkpointing=config.gradient_checkpointing,
            checkpoint_seconds=config.checkpoint_seconds,
            progress=job.progress,
        )
    except DivergedError as error:
        return _diverged(job, error) | {"truncated": training.truncated}
    write_json(job.out / "load_back.json", asdict(result.load_back))
    losses = [row["eval_loss"] for row in result.rows if "eval_loss" in row]
    return {
        "steps": result.steps,
        "rank": result.adapter.rank,
        "resumed_from": result.resumed_from,
        "validation_nll": losses[-1] if losses else None,
        "truncated": training.truncated,
        "load_back": result.load_back.max_difference,
    }


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
    student = known.architecture("student")
    rows = config.micro_batch_size or config.batch_size
    at_once = rows * longest_row(known, "train", cutoff=config.cutoff)
    batch = logits_bytes(student, at_once) + activation_bytes(
        student, at_once, adapter=True, recomputed=config.gradient_checkpointing
    )
    adapter = known.sizes.get("start", 0)
    tokens = tokens_of(known, "train")
    # Two checkpoints of weights and moments while it trains, then the adapter at twice the rank.
    return Estimate(
        memory_bytes=student.num_parameters * bytes_each(config.compute_dtype)
        + 5 * adapter
        + batch,
        disk_bytes=8 * adapter if adapter else None,
        tokens=None if tokens is None else tokens * config.epochs,
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
    sized_by=("student",),
    on_result=_show,
)
