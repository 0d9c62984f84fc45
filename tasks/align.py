"""Pair each student layer with a teacher layer (SeeKing, arXiv 2310.11451, §3)."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from paraknow_core.alignment.layers import LAYER_STRATEGIES, check_layers, choose_layers
from paraknow_core.setting_types import EachOnce, Layer, OneOf, Seed
from paraknow_core.settings import Settings, later
from tasks.acquire_model import load_architecture
from tasks.engine.json_files import read_json, write_json
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


class AlignConfig(Settings):
    """Which teacher layers are used."""

    strategy: Annotated[str, OneOf("layer strategy", LAYER_STRATEGIES)] = Field(
        "sensitivity",
        title="Layer choice",
        description="sensitivity (the most sensitive, in their order), first, last, random, or "
        "uniform (evenly spaced, both ends included).",
    )
    seed: Seed = Field(0, title="Seed", description="Of the random choice.")
    layers: Annotated[tuple[Layer, ...], Field(min_length=1), EachOnce] | None = later(
        None,
        title="Layers",
        description="In place of a strategy: the teacher's layer for each of the student's layers, "
        "such as [0, 3, 5]; in any order, each at most once.",
    )

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.layers is not None and self.strategy != "sensitivity":
            msg = f"give either layers or a strategy, not both (strategy is {self.strategy!r})"
            raise ValueError(msg)
        return self


def _compute(job: Job[AlignConfig]) -> Facts:
    """Choose one teacher layer for each student layer."""
    table = read_json(job.inputs["scores"] / "layer_sums.json")
    teacher = load_architecture(job.inputs["teacher"])
    student = load_architecture(job.inputs["student"])
    sizes = {"num_teacher": teacher.num_layers, "num_student": student.num_layers}
    if job.config.layers is not None:
        check_layers(job.config.layers, **sizes)
        layers = list(job.config.layers)
    else:
        layers = choose_layers(
            job.config.strategy, scores=table["layers"], **sizes, seed=job.config.seed
        )
    write_json(job.out / "layers.json", layers)
    return {"layers": layers}


align = Step(
    name="align",
    stage=Stage.ALIGN,
    version=1,
    compute=_compute,
    reads={
        "scores": ("layer_sums.json",),
        "teacher": ("architecture.json",),
        "student": ("architecture.json",),
    },
    preview=True,
)
