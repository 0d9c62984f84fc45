"""Train a start point on the task; deliver one ordinary PEFT adapter on the unmodified student."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Literal

from pydantic import Field

from paraknow_core.data import read_split, tokenise_all
from paraknow_core.inspection.cost import activation_bytes, logits_bytes
from tasks.engine.estimates import Estimate, Foreseen, bytes_each, longest_row, tokens_of
from tasks.engine.identity import StepConfig, execution
from tasks.engine.json_files import write_json
from tasks.engine.run import RunConfig
from tasks.engine.step import Facts, Job, Step


class FinetuneConfig(StepConfig):
    """How the adapter is trained; the defaults are SeeKing's (arXiv 2310.11451, §4)."""

    learning_rate: float = Field(3e-4, gt=0, title="Learning rate", description="AdamW's peak.")
    epochs: int = Field(3, ge=1, title="Epochs")
    batch_size: int = Field(64, ge=1, title="Batch size", description="Examples an optimizer step.")
    warmup_ratio: float = Field(
        0.03, ge=0, le=1, title="Warm-up ratio", description="Share of steps with a rising rate."
    )
    lr_schedule: Literal["linear", "cosine", "constant"] = Field("linear", title="Schedule")
    dropout: float = Field(
        0.05, ge=0, lt=1, title="Dropout", description="On the adapter's inputs."
    )
    weight_decay: float = Field(0.0, ge=0, title="Weight decay")
    max_grad_norm: float = Field(1.0, gt=0, title="Gradient clipping")
    cutoff: int = Field(2048, ge=8, title="Cut-off", description="Tokens kept of each example.")
    seed: int = Field(0, ge=0, title="Seed", description="Of data order and dropout.")
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        title="Compute dtype",
        description="The student's; the adapter is float32 always.",
    )
    micro_batch_size: int = execution(
        0,
        ge=0,
        title="Micro-batch",
        description="Examples at once on the device; 0: the whole batch.",
    )
    gradient_checkpointing: bool = execution(
        False,
        title="Gradient checkpointing",
        description="Saves memory, costs a second forward pass.",
    )
    checkpoint_seconds: float = execution(
        120.0,
        gt=0,
        title="Checkpoint every",
        description="Seconds; a killed run goes on from there.",
    )


def _compute(job: Job[FinetuneConfig]) -> Facts:
    """Train from W − B₀A₀ + BA, and prove that the delivered adapter is the trained model."""
    from paraknow_core.finetuning.finetune import finetune as train
    from paraknow_core.models.load import load_tokenizer, parse_dtype, pick_device

    config, student = job.config, job.locations["student"]
    tokenizer = load_tokenizer(student)
    rows = read_split(job.inputs["data"] / "train.parquet")
    held = read_split(job.inputs["data"] / "validation.parquet")
    training = tokenise_all(rows, tokenizer, cutoff=config.cutoff)
    validation = tokenise_all(held, tokenizer, cutoff=config.cutoff).examples if held else None
    result = train(
        student_folder=student,
        start_folder=job.inputs["start"],
        train=training.examples,
        validation=validation,
        out_folder=job.out,
        work_folder=job.work,
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


finetune = Step(
    name="finetune",
    version=1,
    compute=_compute,
    reads={
        "student": ("manifest.json",),
        "start": (),
        "data": ("train.parquet", "validation.parquet"),
    },
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
