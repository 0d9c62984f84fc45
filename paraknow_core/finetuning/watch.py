"""What happens beside the steps of a training: validation, checkpoints, and the end at a NaN."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from paraknow_core.divergence import check_start
from paraknow_core.errors import DivergedError
from paraknow_core.finetuning.best_weights import BestWeights
from paraknow_core.finetuning.checkpoints import KEPT_CHECKPOINTS
from paraknow_core.finetuning.early_stopping import EarlyStopping, best_of, is_over
from paraknow_core.finetuning.ranks import ALONE, Ranks
from paraknow_core.partial_results import PartialResults
from paraknow_core.progress import Progress

ANSWER_LOSS = "answer_loss"
LOGGED = ("step", "epoch", "loss", ANSWER_LOSS, "learning_rate", "grad_norm", "eval_loss")
"""What the training log holds of each step; the answers' own loss where another one is trained."""


class Watch(TrainerCallback):
    """Decides when to validate and save, seals what was saved, and reports progress.

    Validation comes before the save of the same step, inside one callback, so that no kill can
    separate them: a resumed run has the same log as one that was never killed.

    Attributes:
        tell: called with each validation loss, for trackers; None if there are none.
    """

    def __init__(
        self,
        *,
        run: str,
        partial: PartialResults,
        validate: Callable[[], float] | None,
        validate_every: int,
        checkpoint_steps: int | None,
        checkpoint_seconds: float | None,
        progress: Progress,
        stopping: EarlyStopping | None = None,
        best: BestWeights | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Set what is done when.

        Args:
            run: name of the run that checkpoints are of.
            partial: where they are sealed.
            validate: returns the validation loss; None: there is none.
            validate_every: steps between two validations.
            checkpoint_steps: steps between two checkpoints, or None.
            checkpoint_seconds: seconds between two checkpoints, or None.
            progress: called after each step.
            stopping: when to stop early, if ever; with ``best``.
            best: keeps the weights at the best validation.
            ranks: processes of the training. What is validated is the same in all of them; the
                first one's clock says when to save, and it alone seals and reports.
        """
        self._run = run
        self._partial = partial
        self._validate = validate
        self._validate_every = validate_every
        self._stopping = stopping
        self._best = best
        self._ranks = ranks
        self._checkpoint_steps = checkpoint_steps
        self._checkpoint_seconds = checkpoint_seconds
        self._progress = progress
        self._last_save = time.monotonic()
        self.tell: Callable[[dict[str, float]], Any] | None = None

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Validate, and ask for a checkpoint or for the end, when it is due."""
        step = state.global_step
        is_due = step % self._validate_every == 0 or step == state.max_steps
        if self._validate is not None and is_due:
            loss = self._validate()
            if not math.isfinite(loss):
                raise _diverged("validation loss", loss, state)
            # Into the Trainer's own history: a checkpoint saves it, and a resumed run restores it.
            state.log_history.append({"step": step, "eval_loss": loss})
            if self.tell is not None:
                self.tell({"eval_loss": loss})
            if self._stopping is not None and self._best is not None:
                losses = validation_losses(state.log_history)
                if best_of(losses) == len(losses) - 1:
                    self._best.keep()
                control.should_training_stop |= is_over(losses, self._stopping)
        by_steps = self._checkpoint_steps is not None and step % self._checkpoint_steps == 0
        seconds = time.monotonic() - self._last_save
        by_time = self._checkpoint_seconds is not None and self._ranks.first(
            lambda: seconds >= (self._checkpoint_seconds or 0)
        )
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
        if self._ranks.is_first:
            self._progress(state.global_step, state.max_steps, f"loss {logs['loss']:.4f}")

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Seal the checkpoint that was just written, then delete older ones."""
        self._ranks.wait()  # each process has its own random state in the checkpoint
        if not self._ranks.is_first:
            return
        step = state.global_step
        folder = Path(str(args.output_dir)) / f"checkpoint-{step}"
        if self._best is not None:
            self._best.write(folder)
        self._partial.save(folder, step, self._run)
        self._partial.keep_newest(KEPT_CHECKPOINTS)
        self._last_save = time.monotonic()


def _diverged(name: str, value: float, state: TrainerState) -> DivergedError:
    return DivergedError(
        f"diverged: the {name} became {value} at step {state.global_step} of {state.max_steps}. "
        "Lower the learning rate, or train in float32.",
        rows_of(state.log_history),
    )


def validation_losses(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the validation losses of a log or of its rows, in their order."""
    return [entry["eval_loss"] for entry in history if "eval_loss" in entry]


def rows_of(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a step from the Trainer's log, in which one step may have several entries."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in history:
        if "loss" in entry or "eval_loss" in entry:
            rows.setdefault(entry["step"], {}).update(entry)
    return [{k: rows[step][k] for k in LOGGED if k in rows[step]} for step in sorted(rows)]
