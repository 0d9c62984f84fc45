"""Pair each student layer with a teacher layer (SeeKing, arXiv 2310.11451, §3.2)."""

from pydantic import Field

from paraknow_core.alignment import choose_layers
from tasks.acquire_model import load_architecture
from tasks.files import read_json, write_json
from tasks.identity import StepConfig
from tasks.step import Facts, Job, Step


class AlignConfig(StepConfig):
    """Which teacher layers are used."""

    strategy: str = Field(
        "sensitivity",
        title="Layer choice",
        description="sensitivity (the most sensitive, in their order), first, last or random.",
    )
    seed: int = Field(0, ge=0, title="Seed", description="Of the random choice.")


def _compute(job: Job[AlignConfig]) -> Facts:
    """Choose one teacher layer for each student layer."""
    table = read_json(job.inputs["scores"] / "layer_sums.json")
    teacher = load_architecture(job.inputs["teacher"])
    student = load_architecture(job.inputs["student"])
    layers = choose_layers(
        job.config.strategy,
        scores=table["layers"],
        num_teacher=teacher.num_layers,
        num_student=student.num_layers,
        seed=job.config.seed,
    )
    write_json(job.out / "layers.json", layers)
    return {"layers": layers}


align = Step(
    name="align",
    version=1,
    compute=_compute,
    reads={
        "scores": ("layer_sums.json",),
        "teacher": ("architecture.json",),
        "student": ("architecture.json",),
    },
    preview=True,
)
