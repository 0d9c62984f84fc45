"""Train a small model from scratch on word problems and generic text: the demo's pair."""

from collections.abc import Mapping

from pydantic import Field

from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.identity import StepConfig
from tasks.engine.run import RunConfig
from tasks.engine.step import Facts, Job, Step


class PretrainConfig(StepConfig):
    """Architecture and recipe; the vocabulary is that of the word problems."""

    hidden_size: int = Field(96, ge=8, le=4096, title="Hidden size")
    layers: int = Field(4, ge=1, le=128, title="Layers")
    ffn: int = Field(256, ge=8, le=16384, title="FFN size")
    heads: int = Field(4, ge=1, le=128, title="Attention heads")
    kv_heads: int = Field(4, ge=1, le=128, title="Key/value heads")
    general_steps: int = Field(0, ge=0, title="Steps on generic text")
    general_lr: float = Field(3e-3, gt=0, title="Learning rate on generic text")
    task_steps: int = Field(1400, ge=0, title="Steps on the mixture")
    task_lr: float = Field(3e-3, gt=0, title="Learning rate on the mixture")
    task_share: float = Field(0.7, ge=0, le=1, title="Share of word problems in the mixture")
    batch_size: int = Field(16, ge=1, title="Rows a step")
    sequence_length: int = Field(48, ge=32, le=128, title="Tokens a row")
    warmup_steps: int = Field(50, ge=0, title="Warm-up steps")
    initializer_range: float = Field(0.05, gt=0, title="Spread of the initial weights")
    seed: int = Field(0, ge=0, title="Seed")


def _compute(job: Job[PretrainConfig]) -> Facts:
    """Train the model."""
    from paraknow_core.demo.pretrain import pretrain as train

    result = train(
        progress=job.progress,
        out_folder=job.out,
        work_folder=job.work,
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
    version=1,
    compute=_compute,
    numerics=_numerics,
    estimate=_estimate,
    own_process=True,
)
