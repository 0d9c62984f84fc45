"""The Transformers Trainer, silent, exact on resuming, and stopped by the first NaN."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.distillation.loss import kl_of_targets
from paraknow_core.distillation.recipe import DistillationRecipe
from paraknow_core.distillation.targets import collate_taught, take_targets
from paraknow_core.divergence import check_start
from paraknow_core.errors import DivergedError
from paraknow_core.finetuning.batches import predictions
from paraknow_core.finetuning.checkpoints import KEPT_CHECKPOINTS
from paraknow_core.partial_results import PartialResults, Saved
from paraknow_core.progress import Progress

_WEIGHTS = "trained.safetensors"
ANSWER_LOSS = "answer_loss"
LOGGED = ("step", "epoch", "loss", ANSWER_LOSS, "learning_rate", "grad_norm", "eval_loss")
"""What the training log holds of each step; the answers' own loss where another one is trained."""


class AdapterTrainer(Trainer):
    """A Trainer whose checkpoints hold exactly the trainable parameters.

    PEFT's own saving would copy the student's embedding into every checkpoint, and its loading
    handles one adapter, not the second, frozen one (the anchor).
    """

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trainable parameters as they are, bit by bit."""
        folder = Path(str(output_dir or self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        held = {n: p.detach().cpu().contiguous() for n, p in trainable(self.model).items()}
        save_file(held, folder / _WEIGHTS)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:  # noqa: ARG002
        """Return 0: the count is not used, and to compute it takes a pass over all modules."""
        return 0

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        stored = load_file(Path(resume_from_checkpoint) / _WEIGHTS)
        with torch.no_grad():
            for name, parameter in trainable(model or self.model).items():
                parameter.copy_(stored[name])


class AnswerTrainer(AdapterTrainer):
    """Learns answers: the loss of Transformers' causal language models, at their tokens alone."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch: a mean over the answer tokens of the whole batch."""
        logits_NV, labels_N = predictions(model, inputs)
        total = self.summed_loss(logits_NV, labels_N, inputs)
        loss = total / self._divisor(labels_N, num_items_in_batch)
        return (loss, {"logits": logits_NV}) if return_outputs else loss

    def summed_loss(
        self,
        logits_NV: torch.Tensor,
        labels_N: torch.Tensor,
        inputs: dict[str, Any],  # noqa: ARG002
    ) -> torch.Tensor:
        """Return the sum over answer tokens, in nats."""
        return functional.cross_entropy(logits_NV, labels_N, reduction="sum")

    def _divisor(
        self, labels_N: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor | int:
        """Return the batch's answer tokens; the micro-batch's, where the Trainer averages them."""
        if self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            return num_items_in_batch
        return len(labels_N)


class DistillingTrainer(AnswerTrainer):
    """Mixes the answers' loss with the KL to a teacher's outputs; all else is as without.

    Both are means over the answer tokens of the whole batch, however it is cut into micro-batches.
    """

    def __init__(self, *, distillation: DistillationRecipe, **given: Any) -> None:
        super().__init__(**given)
        self._mix = distillation
        self._answers, self._tokens = 0.0, 0

    def summed_loss(
        self, logits_NV: torch.Tensor, labels_N: torch.Tensor, inputs: dict[str, Any]
    ) -> torch.Tensor:
        """Return share · KL + (1 − share) · the answers' loss, summed over answer tokens."""
        answers = super().summed_loss(logits_NV, labels_N, inputs)
        self._answers += float(answers.detach())
        self._tokens += len(labels_N)
        targets = take_targets(dict(inputs))
        kl = kl_of_targets(logits_NV, targets, temperature=self._mix.temperature)
        mixed = self._mix.share * kl
        return mixed + (1 - self._mix.share) * answers if self._mix.share < 1 else mixed

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Say of each step what the answers' own loss was, which other arms' logs hold too."""
        if "loss" in logs:
            logs[ANSWER_LOSS] = self._answers / self._tokens
            self._answers, self._tokens = 0.0, 0
        super().log(logs, start_time)


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


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


def run_trainer(
    model: Any,
    train: Sequence[TokenisedExample],
    *,
    arguments: dict[str, Any],
    watch: Watch,
    resume_from: Saved | None,
    distillation: DistillationRecipe | None = None,
) -> list[dict[str, Any]]:
    """Train a model in place, from the start or from a complete checkpoint.

    Args:
        model: its trainable parameters are trained.
        train: drawn without replacement in each epoch, in an order that follows from the seed and
            the number of examples alone.
        arguments: fields of Transformers' ``TrainingArguments``.
        watch: decides on validation and checkpoints.
        resume_from: a checkpoint of this run, or None.
        distillation: how the loss is mixed; then the examples are ``TaughtExample``.

    Returns:
        The Trainer's log history, of the whole run even if it was resumed.

    Raises:
        DivergedError: if the loss, the gradient or the validation loss becomes NaN or infinite.
        NumericsError: if it is so in the first step, before anything was trained.
    """
    settings = TrainingArguments(**arguments)
    # Without this, every GPU of the machine gets a share of each batch (DataParallel).
    settings._n_gpu = min(settings.n_gpu, 1)
    given = {"model": model, "args": settings, "train_dataset": train, "callbacks": [watch]}
    trainer = (
        AnswerTrainer(**given, data_collator=collate)
        if distillation is None
        else DistillingTrainer(**given, data_collator=collate_taught, distillation=distillation)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from.folder))
    history: list[dict[str, Any]] = trainer.state.log_history
    return history
