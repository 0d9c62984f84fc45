"""Train a small model from scratch on word problems and generic text: the demo's pair."""

from collections.abc import Mapping
from typing import Self

from pydantic import Field, model_validator

from paraknow_core.demo.pretrain_recipe import check_recipe
from paraknow_core.errors import ConfigError
from paraknow_core.setting_types import BatchSize, CountOrNone, LearningRate, Share, TrainingSeed
from paraknow_core.settings import Settings
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

MAX_ROWS = 10_000_000
"""Of a training: they take 4 GB, and about twenty minutes to make."""


class PretrainConfig(Settings):
    """Architecture and recipe; the vocabulary is that of the word problems."""

    hidden_size: int = Field(96, ge=8, le=4096, title="Hidden size")
    layers: int = Field(4, ge=1, le=128, title="Layers")
    ffn: int = Field(256, ge=8, le=16384, title="FFN size")
    heads: int = Field(4, ge=1, le=128, title="Attention heads")
    kv_heads: int = Field(4, ge=1, le=128, title="Key/value heads")
    general_steps: CountOrNone = Field(0, title="Steps on generic text")
    general_lr: LearningRate = Field(3e-3, title="Learning rate on generic text")
    task_steps: CountOrNone = Field(1400, title="Steps on the mixture")
    task_lr: LearningRate = Field(3e-3, title="Learning rate on the mixture")
    task_share: Share = Field(0.7, title="Share of word problems in the mixture")
    batch_size: BatchSize = Field(16, title="Rows a step")
    sequence_length: int = Field(48, ge=32, le=128, title="Tokens a row")
    warmup_steps: CountOrNone = Field(50, title="Warm-up steps")
    initializer_range: float = Field(
        0.05, gt=0, le=1, allow_inf_nan=False, title="Spread of the initial weights"
    )
    seed: TrainingSeed = Field(0, title="Seed")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        try:
            check_recipe(
                self.model_dump() | {"device": "cpu"}, held_out=1, threads=1, checkpoint_steps=None
            )
        except ConfigError as error:
            raise ValueError(str(error)) from error
        rows = (self.general_steps + self.task_steps) * self.batch_size
        if rows > MAX_ROWS:
            msg = (
                f"general_steps {self.general_steps} and task_steps {self.task_steps} of "
                f"batch_size {self.batch_size} take {rows:,} rows, which are all made beforehand; "
                f"allowed are {MAX_ROWS:,}"
            )
            raise ValueError(msg)
        return self


def _compute(job: Job[PretrainConfig]) -> Facts:
    """Train the model."""
    from paraknow_core.demo.pretrain import pretrain as train

    result = train(
        progress=job.progress,
        out_folder=job.out,
        partial=job.partial,
        threads=1,
        **job.config.model_dump(),
    )
    return {"steps": result.steps, "final_loss": result.final_loss, "accuracy": result.accuracy}


def _numerics(_config: PretrainConfig, _run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": "float32", "device": "cpu"}


def _estimate(config: PretrainConfig, _known: Foreseen) -> Estimate:
    """Weights, gradients and AdamW's moments; a checkpoint and the model on disk."""
    layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.ffn
    parameters = config.layers * layer + 2 * 400 * config.hidden_size
    return Estimate(memory_bytes=16 * parameters, disk_bytes=16 * parameters)


pretrain = Step(
    name="pretrain",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    numerics=_numerics,
    estimate=_estimate,
    own_process=True,
)
