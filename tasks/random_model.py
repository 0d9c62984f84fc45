"""A teacher that was never trained: config and tokenizer of another model, random weights."""

from pydantic import Field

from paraknow_core.models.describe import describe
from paraknow_core.setting_types import Seed
from paraknow_core.settings import Settings
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


class RandomModelConfig(Settings):
    """Which draw of the weights."""

    seed: Seed = Field(0, title="Seed", description="Another seed, other weights.")


def _compute(job: Job[RandomModelConfig]) -> Facts:
    """Draw new weights as Transformers initialises this architecture, and write a model folder."""
    from paraknow_core.models.random_init import write_random_model

    parameters = write_random_model(job.locations["like"], job.out, seed=job.config.seed)
    return {"parameters": parameters, "model_type": describe(job.out).model_type}


def _estimate(_config: RandomModelConfig, known: Foreseen) -> Estimate:
    """The weights in the model's own dtype, in memory and on disk."""
    size = known.architecture("like").weight_bytes
    return Estimate(memory_bytes=size, disk_bytes=size)


random_model = Step(
    name="random-model",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    reads={"like": ("manifest.json", "architecture.json")},
    opens=("like",),
    estimate=_estimate,
    threaded=True,
    sized_by=("like",),
)
