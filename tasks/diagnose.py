"""Diagnostics of a pair: how a start point compares with the weights, and how similar the layers of
teacher and student are. Two steps, because every method of a pair shares the second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

from pydantic import Field

from artifacts.disk.sizes import size_text
from paraknow_core.data import read_split
from paraknow_core.data.examples import Example
from paraknow_core.errors import DataError
from paraknow_core.inspection.states_memory import StatesMemory, states_memory
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.sensitivity.streamed.choice import boundary_room, streams
from paraknow_core.setting_types import BatchSize, Count, Tokens
from paraknow_core.settings import Settings, execution
from tasks.acquire_model import load_architecture
from tasks.engine.estimates import (
    Estimate,
    Foreseen,
    bytes_each,
    longest_row,
    rows_of,
    tokens_of,
)
from tasks.engine.freed_memory import small_blocks_given_back
from tasks.engine.json_files import read_json, write_json
from tasks.engine.progress import logger
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

DIAGNOSTICS = "diagnostics.json"
LIKENESS = "likeness.json"
ESTIMATOR = "debiased linear CKA"


class DiagnoseConfig(Settings):
    """Nothing to set."""


class LikenessConfig(Settings):
    """The texts on which the layers of teacher and student are compared."""

    texts: Count = Field(
        256, ge=4, title="Texts", description="Of the validation split, or of the seeds without it."
    )
    cutoff: Tokens = Field(512, title="Cut-off", description="Tokens kept of each text.")
    compute_dtype: Literal["float32", "bfloat16"] = Field("float32", title="Compute dtype")
    batch_size: BatchSize = execution(8, title="Batch size", description="Texts at once.")


def _compute(job: Job[DiagnoseConfig]) -> Facts:
    """Measure ‖B₀A₀‖/‖W‖ and the cosine of B₀A₀ with W for every module of a start point."""
    from paraknow_core.checkpoint.reader import Checkpoint
    from paraknow_core.evaluation.diagnostics import start_fact
    from paraknow_core.lora.adapter_reader import read_adapter

    adapter = read_adapter(job.inputs["start"])
    architecture = load_architecture(job.inputs["student"])
    places = {t.parameter.removesuffix(".weight"): t for t in architecture.tensors}
    if architecture.tied:  # a tied head may have an adapter of its own
        embedding = places[architecture.module_of(Role.EMBED)]
        places[architecture.module_of(Role.HEAD)] = replace(embedding, role=Role.HEAD)
    modules = []
    with Checkpoint(job.locations["student"]) as student:
        for done, (module, (a_RN, b_MR)) in enumerate(adapter.factors.items()):
            job.progress(done, len(adapter.factors), module)
            place = places[module]
            stored = student.read(place.name)
            weight_MN = stored.T if place.transposed else stored
            fact = start_fact(weight_MN, b_MR, a_RN, scale=adapter.scale)
            where = {"module": module, "role": str(place.role), "layer": place.layer}
            modules.append(where | asdict(fact))
    write_json(job.out / DIAGNOSTICS, {"modules": modules})
    cosines = [abs(m["cosine"]) for m in modules if m["cosine"] is not None]
    return {"modules": len(modules), "cosine_greatest": max(cosines, default=None)}


def _compare(job: Job[LikenessConfig]) -> Facts:
    """Compare every layer of the student with every layer of the teacher by linear CKA."""
    from paraknow_core.evaluation.diagnostics import linear_cka

    examples = _examples(job)
    students, teachers = _states(job, "student", examples), _states(job, "teacher", examples)
    matrix = linear_cka(students, teachers)
    found = {"matrix": matrix, "texts": len(examples), "estimator": ESTIMATOR}
    write_json(job.out / LIKENESS, found)
    return {"texts": len(examples), "greatest": _greatest(matrix)}


def _greatest(matrix: list[list[float | None]]) -> float | None:
    return max((v for row in matrix for v in row if v is not None), default=None)


def _examples(job: Job[LikenessConfig]) -> Sequence[Example]:
    """Return the validation rows, by which nothing is chosen here; else the seeds."""
    rows = read_split(job.inputs["data"] / "validation.parquet")
    rows = (rows or read_split(job.inputs["data"] / "seeds.parquet"))[: job.config.texts]
    tokenizers = [
        read_json(job.inputs[who] / "tokenizer.json")["vocabulary"]
        for who in ("student", "teacher")
    ]
    if tokenizers[0] != tokenizers[1] and any(row.input_ids is not None for row in rows):
        raise DataError(
            "The rows are given as token numbers, and teacher and student have different "
            "tokenizers, so the rows are no common texts. Give the rows as texts."
        )
    return rows


def _states(job: Job[LikenessConfig], who: str, rows: Sequence[Example]) -> list[Any]:
    """Load one model, return the mean states of each text, and free its memory."""
    from paraknow_core.data.tokenisation import tokenise_whole
    from paraknow_core.evaluation.diagnostics import pooled_states, pooling
    from paraknow_core.inspection.available import available_bytes
    from paraknow_core.models.describe import describe
    from paraknow_core.models.load import load_model, load_tokenizer, parse_dtype, pick_device
    from paraknow_core.sensitivity.streamed.states import streamed_states

    config, folder = job.config, job.locations[who]
    tokenizer = load_tokenizer(folder)
    texts = [tokenise_whole(row, tokenizer).input_ids[: config.cutoff] for row in rows]
    ignore, lengths = tokenizer.all_special_ids, [len(text) for text in texts]
    dtype, device = parse_dtype(config.compute_dtype), pick_device(job.run.device)
    need = _memory(config, describe(folder), longest=max(lengths), tokens=sum(lengths))
    available = available_bytes(device)
    if streams("auto", need=need.whole, available=available):
        logger.info(
            "%s: the %s is read layer by layer, in about %s of memory instead of %s (%s is free)",
            job.label,
            who,
            *(size_text(size) for size in (need.streamed, need.whole, available)),
        )
        with small_blocks_given_back():
            return streamed_states(
                folder,
                texts,
                pool=pooling(texts, ignore=ignore),
                scratch=job.partial.new_draft(),
                dtype=dtype,
                device=device,
                boundary_bytes=boundary_room(need=need.streamed, available=available),
                progress=job.progress,
            )
    return pooled_states(
        load_model(folder, dtype=dtype, device=device),
        texts,
        ignore=ignore,
        batch_size=config.batch_size,
        progress=job.progress,
    )


def _memory(
    config: LikenessConfig, model: Architecture, *, longest: int, tokens: int
) -> StatesMemory:
    return states_memory(
        model,
        element_bytes=bytes_each(config.compute_dtype),
        texts=config.texts,
        longest=longest,
        tokens=tokens,
        batch=config.batch_size,
    )


def _numerics(config: LikenessConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": config.compute_dtype, "device": run.device_type(), "tf32": False}


def _estimate(_config: DiagnoseConfig, known: Foreseen) -> Estimate:
    """One weight at a time; a few hundred bytes a module on disk."""
    student = known.architecture("student")
    return Estimate(memory_bytes=2**26, disk_bytes=300 * len(student.tensors))


def _estimate_likeness(config: LikenessConfig, known: Foreseen) -> Estimate:
    """One model after the other: in memory, or layer by layer where that is chosen.

    Two models read every text.
    """
    rows, tokens = rows_of(known, "validation"), tokens_of(known, "validation")
    longest = longest_row(known, "validation", cutoff=config.cutoff)
    read = min(tokens or 0, config.texts * config.cutoff) or config.texts * longest
    memory = disk = 0
    for who in ("student", "teacher"):
        need = _memory(config, known.architecture(who), longest=longest, tokens=read)
        there = known.memory()
        by_layer = there is not None and streams("auto", need=need.whole, available=there)
        memory = max(memory, need.streamed if by_layer else need.whole)
        disk = max(disk, need.boundaries if by_layer else 0)
    return Estimate(
        memory_bytes=memory,
        disk_bytes=100_000 + disk,
        tokens=None if tokens is None or rows == 0 else 2 * tokens,
    )


diagnose = Step(
    name="diagnose",
    stage=Stage.REPORT,
    version=1,
    compute=_compute,
    reads={
        "student": ("manifest.json", "architecture.json"),
        "start": ("adapter_model.safetensors", "adapter_config.json"),
    },
    opens=("student",),
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)

likeness = Step(
    name="likeness",
    stage=Stage.REPORT,
    version=1,
    compute=_compare,
    reads={
        "student": ("manifest.json", "tokenizer.json"),
        "teacher": ("manifest.json", "tokenizer.json"),
        "data": ("validation.parquet", "seeds.parquet"),
    },
    opens=("student", "teacher"),
    numerics=_numerics,
    estimate=_estimate_likeness,
    threaded=True,
    sized_by=("student", "teacher"),
)
