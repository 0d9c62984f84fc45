"""A fine-tuning recipe: each setting once, and what the Transformers Trainer calls it."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from paraknow_core.distillation.recipe import DistillationRecipe
from paraknow_core.finetuning.early_stopping import EarlyStopping
from paraknow_core.models.four_bit import Quantisation
from paraknow_core.setting_types import (
    BatchSize,
    CountOrNone,
    Epochs,
    LearningRate,
    Limit,
    Seconds,
    Share,
    TrainingSeed,
    WeightDecay,
)
from paraknow_core.settings import Recipe, execution, identity_of, later

Schedule = Literal["linear", "cosine", "constant"]
SCHEDULES: Mapping[Schedule, str] = MappingProxyType(
    {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
)
"""What the learning rate does after its warm-up → Transformers' name for it."""


class FineTuningRecipe(Recipe):
    """How an adapter is trained; the defaults are SeeKing's (arXiv 2310.11451, §4)."""

    learning_rate: LearningRate = Field(3e-4, title="Learning rate", description="AdamW's peak.")
    epochs: Epochs = Field(3, title="Epochs", description="Passes over the training rows.")
    batch_size: BatchSize = Field(
        64,
        title="Batch size",
        description="Examples an optimizer step; the last step of an epoch may have fewer.",
    )
    warmup_ratio: Share = Field(
        0.03,
        title="Warm-up ratio",
        description="Share of steps with a rising rate; their number is rounded up.",
    )
    lr_schedule: Schedule = Field(
        "linear", title="Schedule", description="What the rate does after the warm-up."
    )
    dropout: Share = Field(0.05, lt=1, title="Dropout", description="On the adapter's inputs.")
    weight_decay: WeightDecay = Field(
        0.0, title="Weight decay", description="AdamW's, on the adapter's factors."
    )
    max_grad_norm: Limit = Field(
        1.0,
        title="Gradient clipping",
        description="Length to which longer gradients are scaled.",
    )
    seed: TrainingSeed = Field(0, title="Seed", description="Of data order and dropout.")
    compute_dtype: Literal["float32", "bfloat16"] = Field(
        "float32",
        title="Compute dtype",
        description="The student's; the adapter is float32 always.",
    )
    micro_batch_size: CountOrNone = execution(
        0,
        title="Micro-batch",
        description="Examples at once on the device, a divisor of the batch size; 0: the whole "
        "batch, or a process's share of it. Saves memory, and changes dropout masks and rounding.",
    )
    processes: int = execution(
        1,
        ge=1,
        le=64,
        title="Processes",
        description="That share each batch, one on each of as many GPUs of this machine (on a CPU "
        "they share its cores). Changes dropout masks and rounding.",
    )
    gradient_checkpointing: bool = execution(
        False,
        title="Gradient checkpointing",
        description="Saves memory, costs a second forward pass.",
    )
    checkpoint_seconds: Seconds = execution(
        120.0,
        gt=0,
        title="Checkpoint every",
        description="Seconds; a killed run goes on from there.",
    )

    distillation: DistillationRecipe | None = later(
        None,
        title="Distillation",
        description="Learn from the teacher's outputs as well, such as {share: 0.9, temperature: "
        "2}; without it from the answers alone.",
    )
    group_by_length: bool = later(
        False,
        title="Group by length",
        description="Batches of rows that are about as long as each other: less padding, and "
        "another order of the rows.",
    )
    early_stopping: EarlyStopping | None = later(
        None,
        title="Early stopping",
        description="Stop when the validation loss no longer falls, and deliver the best step, "
        "such as {patience: 2}; without it the last step is delivered.",
    )
    quantise: Quantisation = later(
        "none",
        title="Quantise",
        description="nf4: the student's matrices in 4 bits while it is trained (QLoRA), with the "
        "library bitsandbytes. The adapter is for the student as it is.",
    )
    packing: bool = later(
        False,
        title="Packing",
        description="Short rows share a sequence instead of being padded: the same batches and "
        "loss, faster; changes dropout masks and rounding.",
    )

    @model_validator(mode="after")
    def _whole_batches(self) -> Self:
        if self.processes > 1:
            _check_shared(self)
        elif self.batch_size % examples_at_once(self):
            msg = (
                f"micro_batch_size is {self.micro_batch_size}; it must divide the batch size, "
                f"{self.batch_size}, so that every step has the batch that was asked for."
            )
            raise ValueError(msg)
        return self


# Functions, not methods: drift follows names, and would not see a change of a method.


def _check_shared(recipe: FineTuningRecipe) -> None:
    """Refuse what several processes cannot share."""
    each = recipe.processes * (recipe.micro_batch_size or 1)
    if recipe.batch_size % each:
        said = f", with a micro_batch_size of {recipe.micro_batch_size}"
        msg = (
            f"processes is {recipe.processes}{said if recipe.micro_batch_size else ''}, but {each} "
            f"does not divide the batch size, {recipe.batch_size}; every process has to get the "
            "same share of each batch."
        )
        raise ValueError(msg)
    if recipe.quantise != "none":
        msg = (
            f"processes is {recipe.processes}, but a student in 4 bits (quantise: "
            f"{recipe.quantise}) is trained in one process; set processes to 1, or quantise to none"
        )
        raise ValueError(msg)


def examples_at_once(recipe: FineTuningRecipe) -> int:
    """Return how many examples are on a device at once."""
    return recipe.micro_batch_size or recipe.batch_size // recipe.processes


def numbers_of(recipe: FineTuningRecipe) -> dict[str, Any]:
    """Return the settings that the numbers depend on, as plain JSON values.

    Args:
        recipe: what a step adds to it by inheritance is left out.
    """
    whole = identity_of(recipe)
    found = {name: value for name, value in whole.items() if name in FineTuningRecipe.model_fields}
    # Checkpoints of runs that an earlier version began know the dtype under this name.
    found["dtype"] = found.pop("compute_dtype")
    return found


def trainer_arguments(
    recipe: FineTuningRecipe, *, drafts: Path, steps: int, device: str
) -> dict[str, Any]:
    """Put a recipe in the words of Transformers' ``TrainingArguments``, everything else off.

    Args:
        recipe: of the training.
        drafts: where checkpoints are written, before they are sealed elsewhere.
        steps: of the whole run, for the length of the warm-up.
        device: "cpu" or "cuda".
    """
    return {
        "output_dir": str(drafts),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "learning_rate": recipe.learning_rate,
        "per_device_train_batch_size": examples_at_once(recipe),
        "gradient_accumulation_steps": recipe.batch_size
        // (examples_at_once(recipe) * recipe.processes),
        "num_train_epochs": recipe.epochs,
        "warmup_steps": math.ceil(steps * recipe.warmup_ratio),
        "lr_scheduler_type": SCHEDULES[recipe.lr_schedule],
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": "adamw_torch",
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device != "cpu",
        "logging_steps": 1,  # Watch stops at the first NaN, and the log has a row for each step
        "logging_nan_inf_filter": False,  # would hide a NaN behind the average of earlier losses
        "save_strategy": "no",  # Watch decides
        "eval_strategy": "no",  # Watch does it
        "report_to": [],  # no experiment tracker, whatever is installed
        "disable_tqdm": True,
        "remove_unused_columns": False,  # the examples are objects without columns
        "ddp_find_unused_parameters": False,  # every factor is used in each forward pass
    }
