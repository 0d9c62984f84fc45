"""Train a small model from scratch on word problems and generic text: the demo's pair."""

from collections.abc import Mapping

from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


def _compute(job: Job[PretrainingRecipe]) -> Facts:
    """Train the model."""
    from paraknow_core.demo.pretrain import pretrain as train

    result = train(
        progress=job.progress,
        out_folder=job.out,
        partial=job.partial,
        threads=1,
        recipe=job.config,
    )
    return {"steps": result.steps, "final_loss": result.final_loss, "accuracy": result.accuracy}


def _numerics(_config: PretrainingRecipe, _run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": "float32", "device": "cpu"}


def _estimate(config: PretrainingRecipe, _known: Foreseen) -> Estimate:
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
