"""How training runs are told apart, and when and how many of their checkpoints are kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import ConfigError
from paraknow_core.lora.adapter import CONFIG, WEIGHTS

KEPT_CHECKPOINTS = 2
"""If the newest turns out to be damaged, the run goes on from the one before it."""


def run_digest(facts: Mapping[str, Any]) -> str:
    """Digest everything that a run's numbers depend on, so that no other run resumes from it.

    Args:
        facts: plain JSON values.

    Returns:
        Hexadecimal SHA-256 of their canonical JSON.
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def check_run(*, device: str, checkpoint_steps: int | None) -> None:
    """Refuse arguments that a training cannot run with; the recipe has checked its own settings.

    Args:
        device: to train on.
        checkpoint_steps: None, or steps between two checkpoints.

    Raises:
        ConfigError: names the argument, its value and what is allowed.
    """
    if device not in ("cpu", "cuda", "cuda:0"):
        raise ConfigError(f"device is {device!r}; allowed is cpu or cuda.")
    if checkpoint_steps is not None and checkpoint_steps < 1:
        raise ConfigError(
            f"checkpoint_steps is {checkpoint_steps}; allowed is at least 1, or None."
        )


def inputs_digest(start_folder: Path, *splits: Sequence[TokenisedExample]) -> dict[str, Any]:
    """Digest the start point and the data. Each student has checkpoints of its own.

    Args:
        start_folder: a PEFT folder.
        splits: examples.
    """
    start = [
        hashlib.sha256((Path(start_folder) / name).read_bytes()).hexdigest()
        for name in (CONFIG, WEIGHTS)
    ]
    tokens = [
        hashlib.sha256(repr([(e.input_ids, e.labels) for e in split]).encode()).hexdigest()
        for split in splits
    ]
    return {"start": start, "tokens": tokens}
