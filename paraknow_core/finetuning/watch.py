"""What happens beside the steps of a training: validation, checkpoints, and the end at a NaN."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from paraknow_core.divergence import check_start
from paraknow_core.errors import DivergedError
from paraknow_core.finetuning.checkpoints import KEPT_CHECKPOINTS
from paraknow_core.partial_results import PartialResults
from paraknow_core.progress import Progress

ANSWER_LOSS = "answer_loss"
LOGGED = ("step", "epoch", "loss", ANSWER_LOSS, "learning_rate", "grad_norm", "eval_loss")
"""What the training log holds of each step; the answers' own loss where another one is trained."""


class Watch(TrainerCallback):
    """Decides when to validate and save, seals what was saved, and reports progress.

    Validation comes before the save of the same step, inside one callback, so that no kill can
    separate them: a resumed run has the same log as one that was never killed.
    """

    def __init__(
        self,
        *,
        run: str,
        partial: PartialResults,
        validate: Callable[[], float] | None,
        steps_per_epoch: int,
        checkpoint_steps: int | None,
        checkpoint_seconds: float | None,
        progress: Progress,
    ) -> None:
        self._run = run
        self._partial = partial
        self._validate = validate
        self._steps_per_epoch = steps_per_epoch
        self._checkpoint_steps = checkpoint_steps
        self._checkpoint_seconds = checkpoint_seconds
        self._progress = progress
        self._last_save = time.monotonic()

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Validate at the end of an epoch; ask for a checkpoint when one is due."""
        step = state.global_step
        if self._validate is not None and step % self._steps_per_epoch == 0:
            loss = self._validate()
            if not math.isfinite(loss):
                raise _diverged("validation loss", loss, state)
            # Into the Trainer's own history: a checkpoint saves it, and a resumed run restores it.
            state.log_history.append({"step": step, "eval_loss": loss})
        by_steps = self._checkpoint_steps is not None and step % self._checkpoint_steps == 0
        seconds = time.monotonic() - self._last_save
        by_time = self._checkpoint_seconds is not None and seconds >= self._checkpoint_seconds
        control.should_save = (by_steps or by_time) and step < state.max_steps

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Stop at the first loss or gradient that is NaN or infinite; else report the loss."""
        if logs is None or "loss" not in logs:
            return
        for field in ("loss", "grad_norm"):
            name, value = field.replace("_", " "), logs.get(field, 0.0)
            if state.global_step == 1:
                check_start(name, value)
            elif not math.isfinite(value):
                raise _diverged(name, value, state)
        self._progress(state.global_step, state.max_steps, f"loss {logs['loss']:.4f}")

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Seal the checkpoint that was just written, then delete older ones."""
        step = state.global_step
        self._partial.save(Path(str(args.output_dir)) / f"checkpoint-{step}", step, self._run)
        self._partial.keep_newest(KEPT_CHECKPOINTS)
        self._last_save = time.monotonic()


def _diverged(name: str, value: float, state: TrainerState) -> DivergedError:
    return DivergedError(
        f"diverged: the {name} became {value} at step {state.global_step} of {state.max_steps}. "
        "Lower the learning rate, or train in float32.",
        rows_of(state.log_history),
    )


def rows_of(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a step from the Trainer's log, in which one step may have several entries."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            rows.setdefault(entry["step"], {}).update(entry)
    return [{k: rows[step][k] for k in LOGGED if k in rows[step]} for step in sorted(rows)]
