"""Sensitivity of every teacher parameter on the seed samples (SeeKing, arXiv 2310.11451, §3)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from artifacts.disk.sizes import size_text
from paraknow_core.data import read_split, tokenise_all
from paraknow_core.inspection.cost import sensitivity_work
from paraknow_core.inspection.sensitivity_memory import SensitivityMemory, sensitivity_memory
from paraknow_core.models.describe import Architecture
from paraknow_core.sensitivity.streamed.choice import Streaming, boundary_room, streams
from paraknow_core.setting_types import CountOrNone, Seconds, Tokens
from paraknow_core.settings import Settings, execution, later
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
from tasks.engine.freed_memory import small_blocks_given_back
from tasks.engine.progress import logger
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

if TYPE_CHECKING:
    from paraknow_core.data.examples import TokenisedExample

_GPU_HALF = "cuda", "bfloat16"
"""Where a gradient is summed over its tokens in float32; on a CPU it is rounded to bfloat16."""


class SensitivityConfig(Settings):
    """How the teacher's sensitivity is computed."""

    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        title="Compute dtype",
        description="bfloat16 halves weights and time, layer sums within 1e-3. Sums are float32.",
    )
    map_dtype: Literal["float32", "bfloat16"] = later(
        "float32",
        title="Map on disk",
        description="bfloat16 halves it; windows may move where two are nearly as sensitive.",
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each sample.")
    checkpoint_seconds: Seconds = execution(
        30.0,
        title="Checkpoint every",
        description="Seconds between checkpoints; 0: each sample.",
    )
    batch_tokens: CountOrNone = execution(
        0,
        title="Tokens together",
        description="Samples of like length go through the teacher together, up to so many tokens, "
        "such as 1024; 0: one by one. Wide teachers gain most; the map changes by rounding alone.",
    )
    streaming: Streaming = execution(
        "auto",
        title="Streaming",
        description="Read the teacher layer by layer: auto, if it does not fit into memory.",
    )


def _compute(job: Job[SensitivityConfig]) -> Facts:
    """Sum |θ·∂L/∂θ| over the seeds, one backward pass each; resumes after what is complete."""
    from paraknow_core.inspection.available import available_bytes
    from paraknow_core.models.load import load_tokenizer, pick_device
    from paraknow_core.sensitivity.maps import refuse_no_sensitivity, write_score_table

    samples = tokenise_all(
        read_split(job.inputs["data"] / "seeds.parquet"),
        load_tokenizer(job.locations["teacher"]),
        cutoff=job.config.cutoff,
    )
    cut = tell_cut(samples, label=job.label, split="seeds")
    lengths = [len(sample.input_ids) for sample in samples.examples]
    need = _memory(job.config, load_architecture(job.inputs["teacher"]), lengths)
    available = available_bytes(pick_device(job.run.device))
    if streams(job.config.streaming, need=need.whole, available=available):
        with small_blocks_given_back():
            table = _streamed(job, samples.examples, need, available)
    else:
        table = _at_once(job, samples.examples, need)
    refuse_no_sensitivity(table)
    write_score_table(table, job.out)
    return {"samples": len(lengths), "tokens": sum(lengths), **cut}


def _at_once(
    job: Job[SensitivityConfig], samples: "Sequence[TokenisedExample]", need: SensitivityMemory
) -> Mapping[str, Any]:
    """Write the maps with the whole teacher in memory; returns their sums."""
    from paraknow_core.models.load import load_model, parse_dtype, pick_device
    from paraknow_core.sensitivity.accumulate import accumulate
    from paraknow_core.sensitivity.maps import score_table, write_maps
    from paraknow_core.sensitivity.resume import SensitivityCheckpoint

    model = load_model(
        job.locations["teacher"],
        dtype=parse_dtype(job.config.compute_dtype),
        device=pick_device(job.run.device),
    )
    maps = accumulate(
        model,
        samples,
        recompute_from=need.recompute_from,
        batch_tokens=job.config.batch_tokens,
        progress=job.progress,
        checkpoint=SensitivityCheckpoint(job.partial, every_seconds=job.config.checkpoint_seconds),
    )
    architecture = load_architecture(job.inputs["teacher"])
    write_maps(maps, job.out, architecture, dtype=parse_dtype(job.config.map_dtype))
    return score_table(maps, architecture)


def _streamed(
    job: Job[SensitivityConfig],
    samples: "Sequence[TokenisedExample]",
    need: SensitivityMemory,
    available: int,
) -> Mapping[str, Any]:
    """Write the maps layer by layer; returns their sums."""
    from paraknow_core.models.load import parse_dtype, pick_device
    from paraknow_core.sensitivity.maps import score_table_of, write_some_maps
    from paraknow_core.sensitivity.streamed.saves import StreamedCheckpoint
    from paraknow_core.sensitivity.streamed.stream import stream

    logger.info(
        "%s: the teacher is read layer by layer, in about %s of memory instead of %s (%s is free)",
        job.label,
        *(size_text(size) for size in (need.streamed, need.whole, available)),
    )
    map_dtype = parse_dtype(job.config.map_dtype)
    sums = stream(
        job.locations["teacher"],
        samples,
        take=lambda maps, tensors: write_some_maps(maps, job.out, tensors, dtype=map_dtype),
        out=job.out,
        scratch=job.partial.new_draft(),
        dtype=parse_dtype(job.config.compute_dtype),
        device=pick_device(job.run.device),
        boundary_bytes=boundary_room(need=need.streamed, available=available),
        progress=job.progress,
        checkpoint=StreamedCheckpoint(job.partial, every_seconds=job.config.checkpoint_seconds),
    )
    return score_table_of(sums, load_architecture(job.inputs["teacher"]))


def _memory(
    config: SensitivityConfig, teacher: Architecture, lengths: "Sequence[int]"
) -> SensitivityMemory:
    return sensitivity_memory(
        teacher,
        element_bytes=bytes_each(config.compute_dtype),
        longest=max(lengths, default=0),
        tokens=sum(lengths),
        batch_tokens=config.batch_tokens,
    )


def _numerics(config: SensitivityConfig, run: RunConfig) -> Mapping[str, str | bool]:
    device = run.device_type()
    on_gpu = {"gradients": "float32"} if (device, config.compute_dtype) == _GPU_HALF else {}
    return {
        "compute": config.compute_dtype,
        "accumulate": "float32",
        "device": device,
        "tf32": False,
        **on_gpu,
    }


def _estimate(config: SensitivityConfig, known: Foreseen) -> Estimate:
    """What the step would need here: everything in memory, or layer by layer where that is chosen.

    The map on disk, and as much in a checkpoint: of float32 sums, or of the layers that are done
    with what passes between layers.
    """
    teacher, tokens = known.architecture("teacher"), tokens_of(known, "seeds")
    longest = longest_row(known, "seeds", cutoff=config.cutoff)
    need = sensitivity_memory(
        teacher,
        element_bytes=bytes_each(config.compute_dtype),
        longest=longest,
        tokens=tokens or longest,
        batch_tokens=config.batch_tokens,
    )
    there = known.memory() if config.streaming == "auto" else None
    available = need.whole * 2 if there is None else there
    by_layer = streams(config.streaming, need=need.whole, available=available)
    samples, on_disk = rows_of(known, "seeds"), bytes_each(config.map_dtype)
    return Estimate(
        memory_bytes=need.streamed if by_layer else need.whole,
        disk_bytes=teacher.num_parameters * (on_disk + (on_disk if by_layer else 4))
        + (2 * need.boundaries if by_layer else 0),
        tokens=tokens,
        work=None
        if samples is None or tokens is None
        else sensitivity_work(teacher, samples=samples, tokens=tokens),
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
