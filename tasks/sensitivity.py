"""Sensitivity of every teacher parameter on the seed samples (SeeKing, arXiv 2310.11451, §3)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from paraknow_core.data import read_split, tokenise_all
from paraknow_core.inspection.cost import activation_bytes, logits_bytes, sensitivity_work
from paraknow_core.setting_types import Seconds, Tokens
from paraknow_core.settings import Settings, execution
from tasks.acquire_model import load_architecture
from tasks.checks.cut_rows import tell_cut
from tasks.engine.estimates import (
    Estimate,
    Foreseen,
    bytes_each,
    longest_row,
    rows_of,
    tokens_of,
)
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


class SensitivityConfig(Settings):
    """How the teacher's sensitivity is computed."""

    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        title="Compute dtype",
        description="bfloat16 halves weights and time, layer sums within 1e-3. Sums are float32.",
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each sample.")
    checkpoint_seconds: Seconds = execution(
        30.0,
        title="Checkpoint every",
        description="Seconds between checkpoints; 0: each sample.",
    )


def _compute(job: Job[SensitivityConfig]) -> Facts:
    """Sum |θ·∂L/∂θ| over the seeds, one backward pass each; resumes after a complete sample."""
    from paraknow_core.models.load import load_model, load_tokenizer, parse_dtype, pick_device
    from paraknow_core.sensitivity.accumulate import accumulate
    from paraknow_core.sensitivity.maps import (
        refuse_no_sensitivity,
        score_table,
        write_maps,
        write_score_table,
    )
    from paraknow_core.sensitivity.resume import SensitivityCheckpoint

    folder = job.locations["teacher"]
    samples = tokenise_all(
        read_split(job.inputs["data"] / "seeds.parquet"),
        load_tokenizer(folder),
        cutoff=job.config.cutoff,
    )
    cut = tell_cut(samples, label=job.label, split="seeds")
    model = load_model(
        folder, dtype=parse_dtype(job.config.compute_dtype), device=pick_device(job.run.device)
    )
    maps = accumulate(
        model,
        samples.examples,
        progress=job.progress,
        checkpoint=SensitivityCheckpoint(job.partial, every_seconds=job.config.checkpoint_seconds),
    )
    architecture = load_architecture(job.inputs["teacher"])
    table = score_table(maps, architecture)
    refuse_no_sensitivity(table)
    write_maps(maps, job.out, architecture)
    write_score_table(table, job.out)
    tokens = sum(len(sample.input_ids) for sample in samples.examples)
    return {"samples": len(samples.examples), "tokens": tokens, **cut}


def _numerics(config: SensitivityConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {
        "compute": config.compute_dtype,
        "accumulate": "float32",
        "device": run.device_type(),
        "tf32": False,
    }


def _estimate(config: SensitivityConfig, known: Foreseen) -> Estimate:
    """Weights, the float32 map and one sample in memory; the map on disk, with a checkpoint twice.

    Logits are of answer tokens alone: half of them, say.
    """
    teacher = known.architecture("teacher")
    parameters, tokens = teacher.num_parameters, longest_row(known, "seeds", cutoff=config.cutoff)
    samples, read = rows_of(known, "seeds"), tokens_of(known, "seeds")
    sample = activation_bytes(teacher, tokens) + logits_bytes(teacher, tokens // 2)
    return Estimate(
        memory_bytes=parameters * (bytes_each(config.compute_dtype) + 4) + sample,
        disk_bytes=parameters * 8,
        tokens=read,
        work=None
        if samples is None or read is None
        else sensitivity_work(teacher, samples=samples, tokens=read),
    )


sensitivity = Step(
    name="sensitivity",
    stage=Stage.SENSITIVITY,
    version=1,
    compute=_compute,
    reads={"teacher": (), "data": ("seeds.parquet",)},
    opens=("teacher",),
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("teacher",),
)
