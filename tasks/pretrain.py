"""Train a small model from scratch: on the demo's word problems, or on texts that are given."""

from collections.abc import Mapping

from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, model_fields
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.rows.config import SPLIT_FILES


def _compute(job: Job[PretrainingRecipe]) -> Facts:
    """Train the model on word problems; with an input ``texts``, on those."""
    from paraknow_core.data import read_split
    from paraknow_core.demo.pretrain import pretrain as train
    from paraknow_core.demo.pretrain_material import Material, Problems, Texts
    from paraknow_core.models.load import load_tokenizer

    material: Material = Problems(job.config)
    if "texts" in job.inputs:
        texts, held_out = (
            read_split(job.inputs["texts"] / SPLIT_FILES[split])
            for split in ("train", "validation")
        )
        material = Texts(job.config, texts, held_out, load_tokenizer(job.locations["tokenizer"]))

    result = train(
        progress=job.progress,
        out_folder=job.out,
        partial=job.partial,
        threads=1,
        recipe=job.config,
        material=material,
    )
    return {"steps": result.steps, "final_loss": result.final_loss, **result.learned}


def _numerics(_config: PretrainingRecipe, _run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": "float32", "device": "cpu"}


def _estimate(config: PretrainingRecipe, known: Foreseen) -> Estimate:
    """Weights, gradients and AdamW's moments, the logits; a checkpoint and the model on disk."""
    rows = model_fields(config)["vocab_size"]
    if "tokenizer" in known.folders:
        rows = known.architecture("tokenizer").vocab_size
    layer = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.ffn
    parameters = config.layers * layer + (1 if config.tied else 2) * rows * config.hidden_size
    logits = 8 * config.batch_size * config.sequence_length * rows  # and their gradient
    return Estimate(memory_bytes=16 * parameters + logits, disk_bytes=16 * parameters)


pretrain = Step(
    name="pretrain",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    reads={"texts": ("train.parquet", "validation.parquet"), "tokenizer": ("manifest.json",)},
    opens=("tokenizer",),
    numerics=_numerics,
    estimate=_estimate,
    own_process=True,
)
