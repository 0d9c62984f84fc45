"""A fine-tuning recipe: what each setting may be, and what the Transformers Trainer calls it."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.load_back import TOLERANCE

SCHEDULES: Mapping[str, str] = MappingProxyType(
    {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
)
"""What the learning rate does after its warm-up → Transformers' name for it."""


def check_recipe(recipe: Mapping[str, Any], micro: int, checkpoint_steps: int | None) -> None:
    """Refuse every setting outside its range.

    Args:
        recipe: the settings that the numbers depend on, as ``training.finetune`` collects them.
        micro: examples at once on the device.
        checkpoint_steps: None, or steps between two checkpoints.

    Raises:
        ConfigError: names the setting, its value and what is allowed.
    """
    batch_size = recipe["batch_size"]
    dtypes = [str(dtype).removeprefix("torch.") for dtype in TOLERANCE]
    rules = [
        ("seed", 0 <= recipe["seed"] < 2**32, "0..2³²−1"),
        ("learning_rate", 0 < recipe["learning_rate"] < math.inf, "above 0"),
        ("batch_size", batch_size >= 1, "at least 1"),
        ("epochs", recipe["epochs"] >= 1, "at least 1"),
        ("warmup_ratio", 0 <= recipe["warmup_ratio"] <= 1, "0..1"),
        ("lr_schedule", recipe["lr_schedule"] in SCHEDULES, ", ".join(SCHEDULES)),
        ("dropout", 0 <= recipe["dropout"] < 1, "0 up to below 1"),
        ("weight_decay", 0 <= recipe["weight_decay"] < math.inf, "at least 0"),
        ("max_grad_norm", 0 < recipe["max_grad_norm"] < math.inf, "above 0"),
        ("dtype", recipe["dtype"] in dtypes, ", ".join(dtypes)),
        ("device", recipe["device"] in ("cpu", "cuda", "cuda:0"), "cpu or cuda"),
    ]
    for name, holds, allowed in rules:
        if not holds:
            raise ConfigError(f"{name} is {recipe[name]!r}; allowed is {allowed}.")
    if micro < 1 or batch_size % micro:
        raise ConfigError(
            f"micro_batch_size is {micro}; it must divide the batch size, {batch_size}, so that "
            "every step has the batch that was asked for."
        )
    if checkpoint_steps is not None and checkpoint_steps < 1:
        raise ConfigError(
            f"checkpoint_steps is {checkpoint_steps}; allowed is at least 1, or None."
        )


def trainer_arguments(
    recipe: Mapping[str, Any], micro: int, work_folder: Path, steps: int
) -> dict[str, Any]:
    """Put a recipe in the words of Transformers' ``TrainingArguments``, everything else off.

    Args:
        recipe: as ``check_recipe`` accepts it.
        micro: examples at once on the device.
        work_folder: for checkpoints.
        steps: of the whole run, for the length of the warm-up.
    """
    return {
        "output_dir": str(work_folder),
        "seed": recipe["seed"],
        "data_seed": recipe["seed"],
        "learning_rate": recipe["learning_rate"],
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": recipe["batch_size"] // micro,
        "num_train_epochs": recipe["epochs"],
        "warmup_steps": math.ceil(steps * recipe["warmup_ratio"]),
        "lr_scheduler_type": SCHEDULES[recipe["lr_schedule"]],
        "weight_decay": recipe["weight_decay"],
        "max_grad_norm": recipe["max_grad_norm"],
        "optim": "adamw_torch",
        "use_cpu": recipe["device"] == "cpu",
        "dataloader_pin_memory": recipe["device"] != "cpu",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # would hide a NaN behind the average of earlier losses
        "save_strategy": "no",  # Watch decides
        "eval_strategy": "no",  # Watch does it
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
