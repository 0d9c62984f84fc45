"""A pre-training recipe: each setting once, its learning rates, and the Trainer's arguments."""

import math
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from paraknow_core.demo.language import vocabulary
from paraknow_core.demo.planted_facts import most_facts
from paraknow_core.setting_types import BatchSize, CountOrNone, LearningRate, Share, TrainingSeed
from paraknow_core.settings import Recipe, later

POSITIONS = 128
"""The most tokens of a text, prompt and answer together, where a recipe says nothing else."""
MAX_ROWS = 10_000_000
"""Rows of a training at most: they take 4 GB, and about twenty minutes to make."""
LOGGING_STEPS = 10


class PretrainingRecipe(Recipe):
    """Sizes of a Llama, and how it is trained: on word problems, or on texts that are given.

    The vocabulary is that of the word problems, or of the tokenizer that comes with the texts.
    """

    hidden_size: int = Field(
        96,
        ge=8,
        le=4096,
        title="Hidden size",
        description="Divisible by the number of heads, to an even number.",
    )
    layers: int = Field(4, ge=1, le=128, title="Layers", description="Of the decoder.")
    ffn: int = Field(
        256, ge=8, le=16384, title="FFN size", description="Inner width of the feed-forward blocks."
    )
    heads: int = Field(
        4, ge=1, le=128, title="Attention heads", description="Of queries; divisible by kv_heads."
    )
    kv_heads: int = Field(
        4,
        ge=1,
        le=128,
        title="Key/value heads",
        description="Fewer than heads is grouped-query attention.",
    )
    general_steps: CountOrNone = Field(
        0, title="Steps on generic text", description="Optimizer steps, the first ones."
    )
    general_lr: LearningRate = Field(
        3e-3, title="Learning rate on generic text", description="AdamW's; constant."
    )
    task_steps: CountOrNone = Field(
        1400, title="Steps on the mixture", description="Optimizer steps, after the others."
    )
    task_lr: LearningRate = Field(
        3e-3,
        title="Learning rate on the mixture",
        description="AdamW's peak; falls to zero as half a cosine.",
    )
    task_share: Share = Field(
        0.7,
        title="Share of word problems in the mixture",
        description="Of the rows, those that begin with problems; generic text fills them up.",
    )
    batch_size: BatchSize = Field(16, title="Rows a step")
    sequence_length: int = Field(
        48,
        ge=32,
        le=4096,
        title="Tokens a row",
        description="The longest problem has 26; at most positions.",
    )
    warmup_steps: CountOrNone = Field(
        50, title="Warm-up steps", description="Of a rising rate, at the very beginning."
    )
    initializer_range: float = Field(
        0.05,
        gt=0,
        le=1,
        allow_inf_nan=False,
        title="Spread of the initial weights",
        description="Their standard deviation.",
    )
    seed: TrainingSeed = Field(0, title="Seed", description="Of the initial weights and the text.")
    positions: int = later(
        POSITIONS,
        ge=32,
        le=32768,
        title="Positions",
        description="Tokens of the longest text that the model takes.",
    )
    tied: bool = later(False, title="Tied", description="The head is the embedding.")
    dialect: TrainingSeed = later(
        0,
        title="Dialect",
        description="Another number, another tokenizer for the word problems: other rows, and some "
        "words are unknown. Not for texts, which come with a tokenizer.",
    )

    facts: CountOrNone = later(
        0,
        title="Planted facts",
        description="Invented facts that the model is told in a fifth of its rows.",
    )
    facts_seed: TrainingSeed = later(
        0, title="Draw of the facts", description="Another number, other facts."
    )
    stop_after: CountOrNone = later(
        0,
        title="Stop after",
        description="Steps, after which the same training ends early, at the rate it has there; 0: "
        "it runs to its end.",
    )

    @property
    def steps(self) -> int:
        """Optimizer steps that are taken."""
        return self.stop_after or self.general_steps + self.task_steps

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        for broken in (check(self) for check in _CHECKS):
            if broken:
                raise ValueError(broken)
        return self


def _steps_wrong(recipe: PretrainingRecipe) -> str:
    steps = recipe.general_steps + recipe.task_steps
    return "" if steps else "general_steps + task_steps is 0; allowed is at least 1."


def _stop_wrong(recipe: PretrainingRecipe) -> str:
    steps = recipe.general_steps + recipe.task_steps
    if recipe.stop_after < steps:
        return ""
    return (
        f"stop_after is {recipe.stop_after}, but general_steps + task_steps is {steps}; give fewer "
        "steps than that, or leave stop_after out for the whole training."
    )


def _facts_wrong(recipe: PretrainingRecipe) -> str:
    if recipe.facts > most_facts():
        return f"facts is {recipe.facts}; there can be {most_facts():,}, one a name and place."
    if recipe.facts and recipe.dialect:
        return "facts are told in the words of dialect 0; leave facts or dialect out."
    return ""


def _widths_wrong(recipe: PretrainingRecipe) -> str:
    hidden, heads, kv_heads = recipe.hidden_size, recipe.heads, recipe.kv_heads
    if hidden % (2 * heads) == 0 and heads % kv_heads == 0:
        return ""
    return (
        f"hidden_size {hidden}, heads {heads} and kv_heads {kv_heads} do not go together: a "
        "head must have an even width (hidden_size / heads), and kv_heads must divide heads."
    )


def _rows_wrong(recipe: PretrainingRecipe) -> str:
    rows = (recipe.general_steps + recipe.task_steps) * recipe.batch_size
    if rows <= MAX_ROWS:
        return ""
    return (
        f"general_steps {recipe.general_steps} and task_steps {recipe.task_steps} of "
        f"batch_size {recipe.batch_size} take {rows:,} rows, which are all made beforehand; "
        f"allowed are {MAX_ROWS:,}"
    )


def _positions_wrong(recipe: PretrainingRecipe) -> str:
    if recipe.sequence_length <= recipe.positions:
        return ""
    return (
        f"sequence_length is {recipe.sequence_length}, but the model has {recipe.positions} "
        "positions; shorten the rows or raise positions"
    )


_CHECKS = (
    *(_steps_wrong, _stop_wrong, _facts_wrong),
    *(_widths_wrong, _rows_wrong, _positions_wrong),
)


def model_fields(recipe: PretrainingRecipe, *, vocab_size: int | None = None) -> dict[str, Any]:
    """Return the fields of the model's config.json: a Llama.

    Args:
        recipe: of the training.
        vocab_size: rows of embedding and head; None: those of the word problems' tokenizer.
    """
    return {
        "vocab_size": len(vocabulary(recipe.dialect)) if vocab_size is None else vocab_size,
        "hidden_size": recipe.hidden_size,
        "num_hidden_layers": recipe.layers,
        "intermediate_size": recipe.ffn,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "max_position_embeddings": recipe.positions,
        "initializer_range": recipe.initializer_range,
        "tie_word_embeddings": recipe.tied,
    }


def learning_rate(step: int, recipe: PretrainingRecipe) -> float:
    """The learning rate of a step, counted from 0.

    A linear warm-up runs over the first ``warmup_steps`` of the run. Without it, the rate is
    ``general_lr`` for ``general_steps``, then falls from ``task_lr`` to zero as half a cosine.

    Args:
        step: optimizer steps taken so far.
        recipe: of the training.
    """
    rise = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    done = step - recipe.general_steps
    if done < 0:
        return float(rise * recipe.general_lr)
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done / max(1, recipe.task_steps))))
    return float(rise * fall * recipe.task_lr)


def trainer_arguments(recipe: PretrainingRecipe, *, drafts: Path, device: str) -> dict[str, Any]:
    """Put a recipe in the words of Transformers' ``TrainingArguments``, everything else off.

    Args:
        recipe: of the training.
        drafts: where checkpoints are written, before they are sealed elsewhere.
        device: "cpu" or "cuda".
    """
    return {
        "output_dir": str(drafts),
        "seed": recipe.seed,
        "data_seed": recipe.seed,
        "learning_rate": max(recipe.general_lr, recipe.task_lr),
        "per_device_train_batch_size": recipe.batch_size,
        "max_steps": recipe.steps,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,  # a run of a few thousand steps is short for 0.999
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",  # saves 4 ms a step
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device != "cpu",
        "logging_steps": min(LOGGING_STEPS, recipe.steps),
        "logging_nan_inf_filter": False,  # would hide a NaN behind the average of earlier losses
        "save_strategy": "no",  # Watch decides
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
