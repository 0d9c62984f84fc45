"""The Transformers Trainer for pre-training: rows in their given order, a schedule of two stages.

Shapes: B = rows in a batch, T = tokens of a row, P = rows in all.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, TrainingArguments

from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, learning_rate, trainer_arguments
from paraknow_core.finetuning.trainer import AdapterTrainer
from paraknow_core.finetuning.watch import Watch
from paraknow_core.partial_results import PartialResults, Saved


class _Rows(Dataset[tuple[Tensor, Tensor]]):
    """Rows of token numbers and labels, read as they are."""

    def __init__(self, ids_PT: Tensor, labels_PT: Tensor) -> None:
        self._ids_PT = ids_PT
        self._labels_PT = labels_PT

    def __len__(self) -> int:
        return len(self._ids_PT)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self._ids_PT[row], self._labels_PT[row]


def _collate(rows: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    ids, labels = zip(*rows, strict=True)
    return {"input_ids": torch.stack(ids).long(), "labels": torch.stack(labels).long()}


class _StagesTrainer(AdapterTrainer):
    """Takes the rows in order and the learning rate from a `learning_rate` of the step."""

    def __init__(self, *, recipe: PretrainingRecipe, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._recipe = recipe

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        return SequentialSampler(rows)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:  # noqa: ARG002
        optimizer = self.optimizer if optimizer is None else optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, self._recipe) / self.args.learning_rate
        )
        return self.lr_scheduler


def run_stages(
    model: Any,
    ids_PT: Tensor,
    labels_PT: Tensor,
    *,
    recipe: PretrainingRecipe,
    device: str,
    partial: PartialResults,
    watch: Watch,
    resume_from: Saved | None,
) -> list[float]:
    """Train a model in place on every row once, in order.

    Args:
        model: all of it is trained.
        ids_PT: token numbers, a whole number of batches.
        labels_PT: token numbers, or −100 where there is no loss.
        recipe: of the training.
        device: "cpu" or "cuda".
        partial: for checkpoints.
        watch: decides on checkpoints, reports progress, stops at NaN.
        resume_from: a checkpoint of this run, or None.

    Returns:
        Losses in nats a token, each the mean of ``LOGGING_STEPS`` steps, of the whole run.

    Raises:
        NumericsError: if the loss or the gradient becomes NaN or infinite.
    """
    settings = TrainingArguments(**trainer_arguments(recipe, drafts=partial.drafts, device=device))
    # Without this, every GPU of the machine gets a share of each batch (DataParallel).
    settings._n_gpu = min(settings.n_gpu, 1)
    trainer = _StagesTrainer(
        recipe=recipe,
        model=model,
        args=settings,
        train_dataset=_Rows(ids_PT, labels_PT),
        data_collator=_collate,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from.folder))
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
