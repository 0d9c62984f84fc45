"""The start point of LoRA as a PEFT adapter folder: from the teacher's factors, or plain."""

from typing import Literal

from pydantic import Field

from paraknow_core.models.describe import Role
from paraknow_core.setting_types import Rank, Scale, Seed
from paraknow_core.settings import Settings, later
from tasks.acquire_model import load_architecture
from tasks.engine.estimates import Estimate, Foreseen, adapter_bytes
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.extract import ExtractConfig, Roles

_ALL_ROLES = ExtractConfig().roles


class LoraConfig(Settings):
    """Size of the adapter and how singular values are shared between its two factors."""

    rank: Rank = Field(
        16, title="Rank", description="Of the trained factors; delivered is twice that."
    )
    alpha: Scale = Field(16.0, title="Alpha", description="PEFT scales B·A by alpha / rank.")
    split: Literal["output", "sqrt"] = Field(
        "output",
        title="Split",
        description="output: B = UΣ, A = Vᵀ (SeeKing); sqrt: √Σ on both (PiSSA).",
    )
    embedding_split: Literal["same", "hidden"] = later(
        "same",
        title="Split of the embedding",
        description="hidden: Σ on the side of the hidden size, B = U, A = ΣVᵀ, as the public code "
        "of SeeKing, which cuts the transposed embedding; same: as all others.",
    )


class PlainLoraConfig(Settings):
    """Plain LoRA's start point, as PEFT draws it: the baseline of the transfer."""

    rank: Rank = Field(16, title="Rank")
    alpha: Scale = Field(16.0, title="Alpha")
    roles: Roles = Field(_ALL_ROLES, min_length=1, title="Roles")
    seed: Seed = Field(0, title="Seed", description="Of the draw.")


def _compute(job: Job[LoraConfig]) -> Facts:
    """Cut the decomposition to the rank and write it as a PEFT adapter folder, the start point."""
    from safetensors.torch import load_file

    from paraknow_core.lora.start_point import start_factors, write_start

    config = job.config
    student = load_architecture(job.inputs["student"])
    stored = load_file(job.inputs["factors"] / "factors.safetensors")
    modules = sorted({name.rpartition(".")[0] for name in stored})
    embedding = student.module_of(Role.EMBED)
    splits = {} if config.embedding_split == "same" else {embedding: config.embedding_split}
    factors = {
        module: start_factors(
            stored[f"{module}.U"],
            stored[f"{module}.S"],
            stored[f"{module}.Vh"],
            rank=config.rank,
            alpha=config.alpha,
            split=splits.get(module, config.split),
        )
        for module in modules
    }
    has_embedding = embedding in factors
    write_start(
        job.out,
        factors=factors,
        embeddings=[embedding] if has_embedding else [],
        rank=config.rank,
        alpha=config.alpha,
        tied_head=student.module_of(Role.HEAD) if student.tied and has_embedding else None,
        fan_in_fan_out=student.is_transposed(factors),
    )
    return {"modules": len(factors), "rank": config.rank}


def _compute_plain(job: Job[PlainLoraConfig]) -> Facts:
    """Draw plain LoRA's start point with PEFT and write it as the same kind of folder."""
    from paraknow_core.lora.start_point import plain_start

    config = job.config
    plain_start(
        job.locations["student"],
        job.out,
        roles=[Role(role) for role in config.roles],
        rank=config.rank,
        alpha=config.alpha,
        seed=config.seed,
    )
    return {"rank": config.rank}


def _estimate(config: LoraConfig, known: Foreseen) -> Estimate:
    """The factors at the start point's rank."""
    student = known.architecture("student")
    return Estimate(disk_bytes=adapter_bytes(student, _ALL_ROLES, config.rank))


def _estimate_plain(config: PlainLoraConfig, known: Foreseen) -> Estimate:
    """The student in float32 while PEFT draws, and the factors."""
    student = known.architecture("student")
    return Estimate(
        memory_bytes=4 * student.num_parameters,
        disk_bytes=adapter_bytes(student, config.roles, config.rank),
    )


lora = Step(
    name="lora",
    stage=Stage.LORA,
    version=1,
    compute=_compute,
    reads={"student": ("architecture.json",), "factors": ("factors.safetensors",)},
    threaded=True,
    estimate=_estimate,
    sized_by=("student",),
)

plain_lora = Step(
    name="plain-lora",
    stage=Stage.LORA,
    version=1,
    compute=_compute_plain,
    reads={"student": ("architecture.json",)},
    opens=("student",),
    threaded=True,
    estimate=_estimate_plain,
    sized_by=("student",),
)
