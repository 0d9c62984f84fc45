"""Fine-tuning from a start point, delivered as one adapter on the unmodified student.

SeeKing (arXiv 2310.11451, section 3.3 and its training details): train ``W − s·B₀A₀ + s·BA`` from
``(B₀, A₀)`` with AdamW at 3e-4, batch 64, 3 epochs, warm-up 3 %, dropout 0.05, loss on the answer.
"""

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from paraknow_core.data.batches import check_examples
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.distillation.targets import TARGETS, read_targets, teach
from paraknow_core.errors import ConfigError, DivergedError
from paraknow_core.finetuning.batches import answer_loss
from paraknow_core.finetuning.checkpoints import check_run, inputs_digest, run_digest
from paraknow_core.finetuning.early_stopping import best_of
from paraknow_core.finetuning.load_back import LoadBack, probe, prove
from paraknow_core.finetuning.ranks import Ranks, join
from paraknow_core.finetuning.recipe import (
    FineTuningRecipe,
    examples_at_once,
    numbers_of,
    trainer_arguments,
)
from paraknow_core.finetuning.reporters import Reporting
from paraknow_core.lora.adapter import Adapter, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import read_trained, recompute_activations, trainable_model
from paraknow_core.lora.combine import combine
from paraknow_core.models.load import load_model, parse_dtype
from paraknow_core.models.modules import learned_positions
from paraknow_core.partial_results import PartialResults
from paraknow_core.progress import Progress, no_progress
from paraknow_core.seeding import random_state_kept

LOG = "training_log.jsonl"
_PROBES = 4
SILENT = Reporting()
"""Reports to no tracker."""


@dataclass(frozen=True)
class TrainingResult:
    """What a fine-tuning run did.

    Attributes:
        adapter: the delivered adapter, as it is in the output folder.
        rows: one a step: step, epoch, loss (nats a token, mean over the batch's answer tokens),
            learning_rate, grad_norm (before clipping), and eval_loss where it was measured.
        steps: optimizer steps of the whole run.
        best_step: the step whose weights are delivered, where the recipe stops early; else None.
        epochs: passes over the examples, a fraction where it was stopped within one.
        seconds: wall-clock time of this call, loading and proof included.
        resumed_from: the step that this call went on from, or None.
        load_back: the proof that the delivered adapter computes what was trained.
    """

    adapter: Adapter
    rows: list[dict[str, float]]
    steps: int
    best_step: int | None
    epochs: float
    seconds: float
    resumed_from: int | None
    load_back: LoadBack


@random_state_kept()
def finetune(
    *,
    student_folder: Path,
    start_folder: Path,
    train: Sequence[TokenisedExample],
    out_folder: Path,
    partial: PartialResults,
    recipe: FineTuningRecipe,
    validation: Sequence[TokenisedExample] | None = None,
    targets_folder: Path | None = None,
    device: str = "cpu",
    checkpoint_steps: int | None = None,
    progress: Progress = no_progress,
    reporting: Reporting = SILENT,
) -> TrainingResult:
    """Train a start point, and deliver one PEFT adapter on the unmodified student.

    The loss of a step is the mean over all answer tokens of the batch's examples, however they are
    cut into micro-batches. The order of the examples follows from the recipe's seed and their
    number alone, so that runs of several start points with one seed see the same batches.

    With ``recipe.distillation`` that mean is mixed with the KL to a teacher's outputs, over the
    same tokens of the same batches; the log then has the answers' loss as well.

    A killed run goes on from its last complete checkpoint in ``partial``; on a CPU, with the
    same number of threads and the same micro-batch, to bit-equal weights and log.

    Each of several processes (``recipe.processes``) calls this with the same arguments; the first
    one writes, reports and proves, and all return the same.

    Args:
        student_folder: a model folder; is only read.
        start_folder: a PEFT folder from ``write_start`` or ``plain_start``.
        train: at least one example; each has an answer token.
        out_folder: gets the adapter and ``training_log.jsonl``, both after training.
        partial: for checkpoints, of this student alone.
        recipe: how it is trained.
        validation: if given, its loss is measured after each epoch; changes nothing else, unless
            the recipe stops early.
        targets_folder: with ``targets.safetensors`` of these examples; if, and only if, it is
            distilled.
        device: "cpu" or "cuda" (a GPU a process; choose them by CUDA_VISIBLE_DEVICES).
        checkpoint_steps: save after every so many steps too; None: only by the recipe's time.
        progress: called after each step with (steps done, steps in all, the loss).
        reporting: experiment trackers that get the log as well; it changes nothing else.

    Returns:
        Log, timing and the load-back proof.

    Raises:
        ConfigError: if ``device`` or ``checkpoint_steps`` is not allowed, targets are missing, or
            this process is not one of as many as the recipe has.
        DataError: if a split is empty or has an example that cannot be trained on, or the targets
            are of other examples.
        ShapeError: if the start point does not fit the student.
        DivergedError: if loss, gradient or logits become NaN or infinite by training; it holds
            the log up to there, and nothing is delivered.
        NumericsError: if they are so before any training, or the delivered adapter does not
            compute what was trained.
    """
    began = time.monotonic()
    check_run(device=device, checkpoint_steps=checkpoint_steps)
    dtype = parse_dtype(recipe.compute_dtype)
    if recipe.early_stopping is not None and not validation:
        raise ConfigError(
            "early_stopping is set, but there are no validation rows; give some "
            "(data.sizes.validation), or leave it out."
        )
    ranks = join(recipe.processes, device=device)
    facts, own = numbers_of(recipe) | {"device": device}, ranks.device(device)
    learned = _with_targets(train, targets_folder, recipe)
    if targets_folder is not None:
        facts["targets"] = hashlib.sha256((targets_folder / TARGETS).read_bytes()).hexdigest()
    trained = _train(
        recipe,
        run=run_digest(facts | inputs_digest(start_folder, train, validation or ())),
        student=load_model(student_folder, dtype=dtype, device=own, quantise=recipe.quantise),
        start=read_adapter(start_folder),
        train=learned,
        validation=validation,
        partial=partial,
        device=device,
        checkpoint_steps=checkpoint_steps,
        progress=progress,
        reporting=reporting if ranks.is_first else SILENT,
        ranks=ranks,
    )

    def deliver() -> LoadBack:
        write_adapter(out_folder, trained.delivered)
        write_log(Path(out_folder) / LOG, trained.rows)
        return prove(
            trained.logits,
            train[:_PROBES],
            student_folder=student_folder,
            adapter_folder=out_folder,
            dtype=dtype,
            device=own,
            quantise=recipe.quantise,
        )

    return TrainingResult(
        adapter=trained.delivered,
        rows=trained.rows,
        steps=len(trained.rows),
        best_step=_best_step(trained.rows) if recipe.early_stopping else None,
        epochs=len(trained.rows) / math.ceil(len(train) / recipe.batch_size),
        load_back=ranks.first(deliver),
        seconds=time.monotonic() - began,
        resumed_from=trained.resumed_from,
    )


def _best_step(rows: Sequence[Mapping[str, float]]) -> int | None:
    judged = [row for row in rows if "eval_loss" in row]
    return int(judged[best_of([row["eval_loss"] for row in judged])]["step"]) if judged else None


def _with_targets(
    train: Sequence[TokenisedExample], folder: Path | None, recipe: FineTuningRecipe
) -> Sequence[TokenisedExample]:
    """Put the teacher's targets beside the examples, if they are to be learned from."""
    if (recipe.distillation is None) != (folder is None):
        raise ConfigError(
            "distillation is set, but no teacher's targets are given; compute them first."
            if folder is None
            else "a teacher's targets are given, but distillation is not set; set it."
        )
    if recipe.distillation is None or folder is None:
        return train
    return teach(train, read_targets(folder), temperature=recipe.distillation.temperature)


@dataclass(frozen=True)
class _Trained:
    """What is kept of a run when its model is freed; all of it on the CPU."""

    delivered: Adapter
    rows: list[dict[str, float]]
    logits: list[Tensor]
    resumed_from: int | None


def _train(
    recipe: FineTuningRecipe,
    *,
    run: str,
    student: Any,
    start: Adapter,
    train: Sequence[TokenisedExample],
    validation: Sequence[TokenisedExample] | None,
    partial: PartialResults,
    device: str,
    reporting: Reporting,
    ranks: Ranks,
    **watching: Any,
) -> _Trained:
    """Train from the newest complete checkpoint, or from the start point."""
    from paraknow_core.finetuning.best_weights import BestWeights
    from paraknow_core.finetuning.packing_check import check_packing
    from paraknow_core.finetuning.trainer import run_trainer, trainable
    from paraknow_core.finetuning.watch import Watch, rows_of

    limits = {
        "vocab_size": student.get_input_embeddings().num_embeddings,
        "positions": learned_positions(student),
    }
    check_examples(train, name="train", **limits)
    if validation is not None:
        check_examples(validation, name="validation", **limits)
    if recipe.gradient_checkpointing:
        recompute_activations(student)
    model = trainable_model(student, start, dropout=recipe.dropout)
    if recipe.packing:
        check_packing(model, train)
    steps_per_epoch, at_once = math.ceil(len(train) / recipe.batch_size), examples_at_once(recipe)
    stopping = recipe.early_stopping
    best = None if stopping is None else BestWeights(trainable(model))
    watch = Watch(
        validate=None
        if validation is None
        else lambda: answer_loss(model, validation, batch_size=at_once, ranks=ranks),
        run=run,
        partial=partial,
        validate_every=(stopping and stopping.every) or steps_per_epoch,
        stopping=stopping,
        best=best,
        checkpoint_seconds=recipe.checkpoint_seconds,
        ranks=ranks,
        **watching,
    )
    steps = steps_per_epoch * recipe.epochs
    arguments = trainer_arguments(recipe, drafts=partial.drafts, steps=steps, device=device)
    newest = ranks.first(lambda: partial.newest(run))
    if best is not None and newest is not None:
        best.read(newest.folder)
    history = run_trainer(
        model,
        train,
        recipe=recipe,
        arguments=arguments,
        watch=watch,
        resume_from=newest,
        reporting=reporting,
        ranks=ranks,
    )
    if best is not None:
        best.put_back()
    delivered = combine(start, read_trained(model, start))
    resumed_from = None if newest is None else newest.number
    logits = probe(model, train[:_PROBES])
    if not all(bool(found.isfinite().all()) for found in logits):
        raise DivergedError(
            "diverged: after the last step the trained model's logits are not finite. Lower the "
            "learning rate, or train in float32.",
            rows_of(history),
        )
    return _Trained(delivered, rows_of(history), logits, resumed_from)


def write_log(path: Path, rows: Sequence[Mapping[str, float | None]]) -> None:
    """Write one JSON object a line, a step each."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
