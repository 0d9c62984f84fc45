"""A start point of LoRA that needs no teacher: PiSSA, MiLoRA, OLoRA, EVA, CorDA or LoRA-GA."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from paraknow_core.data import read_split, tokenise_all
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Role
from paraknow_core.setting_types import OneOf, Rank, Scale, Seed, Tokens
from paraknow_core.settings import Settings
from tasks.checks.cut_rows import tell_cut
from tasks.engine.estimates import Estimate, Foreseen, adapter_bytes, tokens_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.extract import ExtractConfig, Roles

_ALL_ROLES = ExtractConfig().roles


class StartOptionsConfig(Settings):
    """The methods' own settings; each is used by the method that it is named after."""

    corda_mode: Literal["ipm", "kpm"] = Field(
        "ipm",
        title="CorDA: mode",
        description="ipm starts where the seed samples are, kpm where they are not.",
    )
    eva_answers_only: bool = Field(
        True, title="EVA: answers only", description="Look at the inputs of answer tokens only."
    )
    lora_ga_gamma: Scale = Field(
        16.0, title="LoRA-GA: γ", description="The larger, the smaller the start product."
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each seed sample.")


class StudentStartConfig(Settings):
    """Which start point, and how large."""

    method: Annotated[
        str, OneOf("start point", METHODS, fits=lambda method: method.is_student_start)
    ] = Field(title="Method")
    rank: Rank = Field(16, title="Rank")
    alpha: Scale = Field(16.0, title="Alpha", description="PEFT scales B·A by alpha / rank.")
    roles: Roles = Field(_ALL_ROLES, min_length=1, title="Roles")
    options: StartOptionsConfig = Field(StartOptionsConfig(), title="The methods' own settings")
    seed: Seed = Field(0, title="Seed", description="Of what the method draws.")


def _compute(job: Job[StudentStartConfig]) -> Facts:
    """Make the start point from the student's weights, and the seed samples where it needs them."""
    from paraknow_core.initialisation.start_request import StartOptions
    from paraknow_core.initialisation.student import student_start
    from paraknow_core.models.load import pick_device

    config = job.config
    options = config.options.model_dump(exclude={"cutoff"})
    samples = _samples(job)
    made = student_start(
        job.locations["student"],
        job.out,
        method=config.method,
        roles=[Role(role) for role in config.roles],
        rank=config.rank,
        alpha=config.alpha,
        seed=config.seed,
        samples=samples,
        options=StartOptions(**options),
        device=pick_device(job.run.device) if METHODS[config.method].uses_samples else "cpu",
        progress=job.progress,
    )
    return {
        "method": config.method,
        "rank": config.rank,
        "modules": len(made.adapter.factors),
        "plain_modules": list(made.plain),
        "samples": len(samples),
    }


def _samples(job: Job[StudentStartConfig]) -> Sequence[Any]:
    if "data" not in job.inputs:
        return ()
    from paraknow_core.models.load import load_tokenizer

    rows = read_split(job.inputs["data"] / "seeds.parquet")
    tokenizer = load_tokenizer(job.locations["student"])
    kept = tokenise_all(rows, tokenizer, cutoff=job.config.options.cutoff)
    tell_cut(kept, label=job.label, split="seeds")
    return kept.examples


def _numerics(config: StudentStartConfig, run: RunConfig) -> Mapping[str, str | bool]:
    on_device = METHODS[config.method].uses_samples
    return {
        "compute": "float32",
        "device": run.device_type() if on_device else "cpu",
        "tf32": False,
    }


def _estimate(config: StudentStartConfig, known: Foreseen) -> Estimate:
    """The student in float32, once more for its gradients or covariances; the factors on disk."""
    student = known.architecture("student")
    uses_samples = METHODS[config.method].uses_samples
    return Estimate(
        memory_bytes=student.num_parameters * (8 if uses_samples else 4),
        disk_bytes=adapter_bytes(student, config.roles, config.rank),
        tokens=tokens_of(known, "seeds") if uses_samples else None,
    )


student_start = Step(
    name="student-start",
    stage=Stage.LORA,
    version=1,
    compute=_compute,
    reads={"student": ("manifest.json", "architecture.json"), "data": ("seeds.parquet",)},
    opens=("student",),
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
