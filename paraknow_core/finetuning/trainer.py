"""The Transformers Trainer, silent, exact on resuming, and stopped by the first NaN."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import NumericsError
from paraknow_core.finetuning.batches import collate
from paraknow_core.finetuning.checkpoints import KEPT_CHECKPOINTS, mark_complete, prune
from paraknow_core.progress import Progress

_WEIGHTS = "trained.safetensors"


class AdapterTrainer(Trainer):
    """A Trainer whose checkpoints hold exactly the trainable parameters.

    PEFT's own saving would copy the student's embedding into every checkpoint, and its loading
    knows one adapter, not a second, frozen one.
    """

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trainable parameters as they are, bit by bit."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        held = {n: p.detach().cpu().contiguous() for n, p in trainable(self.model).items()}
        save_file(held, folder / _WEIGHTS)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:  # noqa: ARG002
        """Count nothing: nobody reads it, and it walks the whole model in every step."""
        return 0

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        stored = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in trainable(model or self.model).items():
                parameter.copy_(stored[name])


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


class Watch(TrainerCallback):
    """Decides when to evaluate and save, vouches for what was saved, and reports.

    Validation comes before the save of the same step, inside one callback, so that no kill can
    separate them: a resumed run has the same log as one that was never killed.
    """

    def __init__(
        self,
        *,
        run: str,
        validate: Callable[[], float] | None,
        steps_per_epoch: int,
        checkpoint_steps: int | None,
        checkpoint_seconds: float | None,
        progress: Progress,
    ) -> None:
        self._run = run
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
            state.log_history.append({"step": step, "eval_loss": self._validate()})
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
        """Stop at the first loss or gradient that is no number; else report the loss."""
        if logs is None or "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if not math.isfinite(logs.get(name, 0.0)):
                raise NumericsError(
                    f"The {name.replace('_', ' ')} became {logs[name]} at step "
                    f"{state.global_step} of {state.max_steps}, with learning rate "
                    f"{logs.get('learning_rate', 0.0):.3g}. Lower the learning rate, or train in "
                    "float32."
                )
        self._progress(state.global_step, state.max_steps, f"loss {logs['loss']:.4f}")

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        """Mark the checkpoint as complete, then let go of older ones."""
        folder = Path(str(args.output_dir))
        mark_complete(folder / f"checkpoint-{state.global_step}", run=self._run)
        prune(folder, run=self._run, keep=KEPT_CHECKPOINTS)
        self._last_save = time.monotonic()


def run_trainer(
    model: Any,
    train: Sequence[TokenisedExample],
    *,
    arguments: dict[str, Any],
    watch: Watch,
    resume_from: Path | None,
) -> list[dict[str, Any]]:
    """Train a model in place, from the start or from a complete checkpoint.

    Args:
        model: its trainable parameters are trained.
        train: drawn without replacement in each epoch, in an order that follows from the seed and
            the number of examples alone.
        arguments: fields of Transformers' ``TrainingArguments``.
        watch: decides on validation and checkpoints.
        resume_from: a complete checkpoint of this run.

    Returns:
        The Trainer's log history, of the whole run even if it was resumed.

    Raises:
        NumericsError: if the loss or the gradient becomes NaN or infinite.
    """
    settings = TrainingArguments(**arguments)
    # Without this, every GPU of the machine gets a share of each batch (DataParallel).
    settings._n_gpu = min(settings.n_gpu, 1)
    trainer = AdapterTrainer(
        model=model,
        args=settings,
        train_dataset=train,
        data_collator=collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=str(resume_from) if resume_from is not None else None)
    history: list[dict[str, Any]] = trainer.state.log_history
    return history
