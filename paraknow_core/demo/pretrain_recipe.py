"""A pre-training recipe: what each setting may be, its learning rates, and the Trainer's words."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraknow_core.errors import ConfigError

MAX_POSITIONS = 128
LOGGING_STEPS = 10


def check_recipe(
    recipe: Mapping[str, Any], *, held_out: int, threads: int, checkpoint_steps: int | None
) -> None:
    """Refuse every setting outside its range, and widths that do not go together.

    Args:
        recipe: the settings that the numbers depend on, as ``pretraining.pretrain`` collects them.
        held_out: problems to measure the accuracy on.
        threads: of torch.
        checkpoint_steps: None, or steps between two checkpoints.

    Raises:
        ConfigError: names the setting, its value and what is allowed.
    """
    sizes = ("hidden_size", "layers", "ffn", "heads", "kv_heads", "batch_size")
    rules = [(name, recipe[name], recipe[name] >= 1, "at least 1") for name in sizes]
    rules += [
        (name, recipe[name], 0 < recipe[name] < math.inf, "above 0")
        for name in ("general_lr", "task_lr", "initializer_range")
    ]
    rules += [
        (name, recipe[name], recipe[name] >= 0, "at least 0")
        for name in ("general_steps", "task_steps", "warmup_steps")
    ]
    steps = recipe["general_steps"] + recipe["task_steps"]
    length = recipe["sequence_length"]
    rules += [
        ("general_steps + task_steps", steps, steps >= 1, "at least 1"),
        ("task_share", recipe["task_share"], 0 <= recipe["task_share"] <= 1, "0..1"),
        ("seed", recipe["seed"], 0 <= recipe["seed"] < 2**32, "0..2³²−1"),
        ("sequence_length", length, 32 <= length <= MAX_POSITIONS, f"32..{MAX_POSITIONS}"),
        ("device", recipe["device"], recipe["device"] in ("cpu", "cuda"), "cpu or cuda"),
        ("held_out", held_out, held_out >= 1, "at least 1"),
        ("threads", threads, threads >= 1, "at least 1"),
        (
            "checkpoint_steps",
            checkpoint_steps,
            checkpoint_steps is None or checkpoint_steps >= 1,
            "at least 1, or None",
        ),
    ]
    for name, value, holds, allowed in rules:
        if not holds:
            raise ConfigError(f"{name} is {value!r}; allowed is {allowed}.")
    _check_widths(*(recipe[name] for name in ("hidden_size", "heads", "kv_heads")))


def _check_widths(hidden: int, heads: int, kv_heads: int) -> None:
    if hidden % (2 * heads) or heads % kv_heads:
        raise ConfigError(
            f"hidden_size {hidden}, heads {heads} and kv_heads {kv_heads} do not go together: a "
            "head must have an even width (hidden_size / heads), and kv_heads must divide heads."
        )


def learning_rate(step: int, recipe: Mapping[str, Any]) -> float:
    """The learning rate of a step, counted from 0.

    A linear warm-up runs over the first ``warmup_steps`` of the run. Without it, the rate is
    ``general_lr`` for ``general_steps``, then falls from ``task_lr`` to zero as half a cosine.

    Args:
        step: optimizer steps taken so far.
        recipe: with the five settings named above and ``task_steps``.
    """
    rise = min(1.0, (step + 1) / max(1, recipe["warmup_steps"]))
    done = step - recipe["general_steps"]
    if done < 0:
        return float(rise * recipe["general_lr"])
    fall = 0.5 * (1 + math.cos(math.pi * min(1.0, done / max(1, recipe["task_steps"]))))
    return float(rise * fall * recipe["task_lr"])


def trainer_arguments(recipe: Mapping[str, Any], work_folder: Path) -> dict[str, Any]:
    """Put a recipe in the words of Transformers' ``TrainingArguments``, everything else off.

    Args:
        recipe: as ``check_recipe`` accepts it.
        work_folder: for checkpoints.
    """
    steps = recipe["general_steps"] + recipe["task_steps"]
    return {
        "output_dir": str(work_folder),
        "seed": recipe["seed"],
        "data_seed": recipe["seed"],
        "learning_rate": max(recipe["general_lr"], recipe["task_lr"]),
        "per_device_train_batch_size": recipe["batch_size"],
        "max_steps": steps,
        "weight_decay": 0.01,
        "adam_beta2": 0.98,  # a run of a few thousand steps is short for 0.999
        "max_grad_norm": 1.0,
        "optim": "adamw_torch_fused",  # saves 4 ms a step
        "use_cpu": recipe["device"] == "cpu",
        "dataloader_pin_memory": recipe["device"] != "cpu",
        "logging_steps": min(LOGGING_STEPS, steps),
        "logging_nan_inf_filter": False,  # would hide a NaN behind the average of earlier losses
        "save_strategy": "no",  # Watch decides
        "eval_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
