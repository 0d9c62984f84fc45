"""What a teacher says of every answer token of the training rows, once for all students' arms."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from paraknow_core.data import read_split, tokenise_all
from paraknow_core.distillation.recipe import Temperature
from paraknow_core.inspection.cost import forward_flops, logits_bytes
from paraknow_core.setting_types import BatchSize, Count, Seconds, Tokens
from paraknow_core.settings import Settings, execution
from tasks.acquire_model import load_architecture
from tasks.checks.cut_rows import tell_cut
from tasks.checks.distillation import check_one_tokenizer
from tasks.engine.estimates import Estimate, Foreseen, bytes_each, longest_row, tokens_of
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.rows.shared_tokens import tokenizer_digests

LARGE_REST = 0.05
"""Of the probability, mean over tokens: above it, what goes into the bucket is worth a word."""


class TeacherLogitsConfig(Settings):
    """What of the teacher's outputs is kept, and how they are computed."""

    temperature: Temperature = Field(
        2.0, title="Temperature", description="Divides the logits before the softmax."
    )
    top_k: Count = Field(
        64, title="Top k", description="Tokens kept of each position; the others are one bucket."
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", title="Compute dtype", description="The teacher's; what is kept is float32."
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each example.")
    batch_size: BatchSize = execution(
        16, title="Batch size", description="Rows at once; memory, speed and rounding."
    )
    checkpoint_seconds: Seconds = execution(
        120.0, title="Checkpoint every", description="Seconds; a killed run goes on from there."
    )


def _source(_config: TeacherLogitsConfig, inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    """The rows' tokens are what the tokenizers say, which must be one."""
    return Source(digests=tokenizer_digests(inputs))


def _compute(job: Job[TeacherLogitsConfig]) -> Facts:
    """Run the teacher over the training rows once; resumes after a saved batch."""
    from paraknow_core.distillation.targets import write_targets
    from paraknow_core.distillation.teacher_pass import teacher_targets
    from paraknow_core.models.load import load_model, load_tokenizer, parse_dtype, pick_device

    check_one_tokenizer(job.inputs, job.locations)
    config, folder = job.config, job.locations["teacher"]
    rows = tokenise_all(
        read_split(job.inputs["data"] / "train.parquet"),
        load_tokenizer(job.locations["student"]),
        cutoff=config.cutoff,
    )
    tell_cut(rows, label=job.label, split="train")
    found = teacher_targets(
        load_model(
            folder, dtype=parse_dtype(config.compute_dtype), device=pick_device(job.run.device)
        ),
        rows.examples,
        vocab_size=load_architecture(job.inputs["student"]).vocab_size,
        top_k=config.top_k,
        temperature=config.temperature,
        batch_size=config.batch_size,
        partial=job.partial,
        every_seconds=config.checkpoint_seconds,
        progress=job.progress,
    )
    write_targets(found, job.out)
    rest_N = found.tokens.log_rest_N.double().exp()
    if rest_N.mean() > LARGE_REST:
        logger.warning(
            "%.0f %% of the teacher's probability at temperature %g is not on the %d likeliest "
            "tokens: how it is spread over the others is not learned. A greater "
            "finetune.distillation.top_k (or a lower temperature) keeps it.",
            100 * float(rest_N.mean()),
            config.temperature,
            found.tokens.ids_NK.shape[1],
        )
    tokens = sum(len(row.input_ids) for row in rows.examples)
    return {
        "rows": len(rows.examples),
        "tokens": tokens,
        "answer_tokens": len(rest_N),
        "top_k": found.tokens.ids_NK.shape[1],
        "rest_mean": float(rest_N.mean()),
        "rest_max": float(rest_N.max()),
        # By a student's logits, sum of absolute values, mean over answer tokens.
        "gradient_error_at_most": 2 * float(rest_N.mean()) / config.temperature,
        "truncated": rows.truncated,
        "flops": forward_flops(load_architecture(job.inputs["teacher"]), tokens),
    }


def _numerics(config: TeacherLogitsConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": config.compute_dtype, "device": run.device_type(), "tf32": False}


def _estimate(config: TeacherLogitsConfig, known: Foreseen) -> Estimate:
    """The teacher, a batch's logits, and for each answer token K ids and log-probabilities.

    Of a row's tokens half are answer, say.
    """
    teacher = known.architecture("teacher")
    tokens = tokens_of(known, "train")
    at_once = config.batch_size * longest_row(known, "train", cutoff=config.cutoff)
    kept = min(config.top_k, teacher.vocab_size)
    held = None if tokens is None else tokens // 2 * (8 * kept + 4)
    return Estimate(
        memory_bytes=teacher.num_parameters * bytes_each(config.compute_dtype)
        + logits_bytes(teacher, at_once // 2)
        + 2 * (held or 0),
        disk_bytes=held,
        tokens=tokens,
    )


teacher_logits = Step(
    name="teacher-logits",
    stage=Stage.LORA,
    version=1,
    compute=_compute,
    reads={
        "teacher": ("manifest.json", "architecture.json"),
        "student": ("architecture.json",),
        "data": ("train.parquet",),
    },
    opens=("teacher", "student"),
    source=_source,
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("teacher",),
)
