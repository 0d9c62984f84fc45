"""The Transformers Trainer, silent, exact on resuming, and stopped by the first NaN."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard, SeedableRandomSampler
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch.nn import functional
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerControl, TrainingArguments

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.data.packing import collate_packed
from paraknow_core.distillation.loss import kl_of_targets
from paraknow_core.distillation.recipe import DistillationRecipe
from paraknow_core.distillation.targets import collate_taught, take_targets
from paraknow_core.finetuning.batches import PlacesLoss, summed_loss
from paraknow_core.finetuning.length_groups import LengthGroups
from paraknow_core.finetuning.rank_batches import RankBatches, idle_row
from paraknow_core.finetuning.ranks import ALONE, Ranks, in_forward
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.finetuning.reporters import Reporting
from paraknow_core.finetuning.watch import ANSWER_LOSS, Watch
from paraknow_core.partial_results import Saved

_WEIGHTS = "trained.safetensors"


class AdapterTrainer(Trainer):
    """A Trainer whose checkpoints hold exactly the trainable parameters.

    PEFT's own saving would copy the student's embedding into every checkpoint, and its loading
    handles one adapter, not the second, frozen one (the anchor).
    """

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the trainable parameters as they are, bit by bit; one process of several does."""
        if not self.args.should_save:
            return
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

    _ranks: Ranks = ALONE

    def __init__(
        self, *, order: Sampler[int] | None = None, ranks: Ranks = ALONE, **given: Any
    ) -> None:
        """Set what a Trainer does not know.

        Args:
            order: of the examples; None: a random one.
            ranks: processes that share each batch.
            given: what a Trainer is given.
        """
        super().__init__(**given)
        self._order = order
        self._ranks = ranks
        if ranks.count > 1:
            self.model_accepts_loss_kwargs = True  # has answer tokens counted over all processes
            set_seed(self.args.seed, device_specific=True)  # else all had the same dropout masks

    def get_train_dataloader(self) -> Any:
        """Return the batches, or of several processes this one's share of each."""
        if self._ranks.count == 1:
            return super().get_train_dataloader()
        rows: Any = self.train_dataset
        each = self.args.per_device_train_batch_size
        shared = RankBatches(
            # What accelerate makes of the Trainer's random order in one process.
            self._order or SeedableRandomSampler(rows, data_seed=self.args.data_seed),
            batch_size=each * self.args.gradient_accumulation_steps * self._ranks.count,
            at_once=each,
            ranks=self._ranks,
            idle=len(rows),
        )
        return DataLoaderShard(
            [*rows, idle_row(rows[0])],
            batch_sampler=shared,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order or super()._get_train_sampler(train_dataset)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a micro-batch: a mean over the answer tokens of the whole batch."""
        of_batch = self.loss_of(inputs)
        if self._ranks.count == 1:
            total, tokens = summed_loss(model, inputs, of_batch)
        else:
            total, tokens = in_forward(
                model, self.model, inputs, lambda whole, given: summed_loss(whole, given, of_batch)
            )
        loss = total / self._divisor(tokens, num_items_in_batch)
        if self._ranks.count > 1:
            loss = loss * self._ranks.count  # the mean of all processes' gradients is to be the sum
        return (loss, {}) if return_outputs else loss

    def loss_of(self, inputs: dict[str, Any]) -> PlacesLoss:  # noqa: ARG002
        """Return the loss of a micro-batch: summed over answer tokens, in nats."""
        return _answers_loss

    def _divisor(
        self, tokens: int, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor | int:
        """Return the batch's answer tokens; the micro-batch's, where the Trainer averages them."""
        if self.model_accepts_loss_kwargs and num_items_in_batch is not None:
            return num_items_in_batch
        return tokens


def _answers_loss(logits_NV: torch.Tensor, labels_N: torch.Tensor, _part: slice) -> torch.Tensor:
    return functional.cross_entropy(logits_NV, labels_N, reduction="sum")


class DistillingTrainer(AnswerTrainer):
    """Mixes the answers' loss with the KL to a teacher's outputs; all else is as without.

    Both are means over the answer tokens of the whole batch, however it is cut into micro-batches.
    """

    def __init__(self, *, distillation: DistillationRecipe, **given: Any) -> None:
        super().__init__(**given)
        self._mix = distillation
        self._answers, self._tokens = 0.0, 0

    def loss_of(self, inputs: dict[str, Any]) -> PlacesLoss:
        """Return share · KL + (1 − share) · the answers' loss, summed over answer tokens."""
        targets = take_targets(dict(inputs))

        def mixed(logits_NV: torch.Tensor, labels_N: torch.Tensor, part: slice) -> torch.Tensor:
            answers = _answers_loss(logits_NV, labels_N, part)
            self._answers += float(answers.detach())
            self._tokens += len(labels_N)
            kl = kl_of_targets(logits_NV, targets.of(part), temperature=self._mix.temperature)
            mixed = self._mix.share * kl
            return mixed + (1 - self._mix.share) * answers if self._mix.share < 1 else mixed

        return mixed

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Say of each step what the answers' own loss was, which other arms' logs hold too."""
        if "loss" in logs:
            answers, tokens = self._ranks.total(self._answers, self._tokens)
            logs[ANSWER_LOSS] = answers / tokens
            self._answers, self._tokens = 0.0, 0
        super().log(logs, start_time)


def trainable(model: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def run_trainer(
    model: Any,
    train: Sequence[TokenisedExample],
    *,
    recipe: FineTuningRecipe,
    arguments: dict[str, Any],
    watch: Watch,
    resume_from: Saved | None,
    reporting: Reporting,
    ranks: Ranks,
) -> list[dict[str, Any]]:
    """Train a model in place, from the start or from a complete checkpoint.

    Args:
        model: its trainable parameters are trained.
        train: drawn without replacement in each epoch, in an order that follows from the seed and
            the examples' number (grouped by length: their lengths) alone; ``TaughtExample``, if
            the recipe distils.
        recipe: how batches are laid out, and what the loss is made of.
        arguments: the recipe as fields of Transformers' ``TrainingArguments``.
        watch: decides on validation and checkpoints.
        resume_from: a checkpoint of this run, or None.
        reporting: experiment trackers.
        ranks: processes that train the same model at once, each on its share of every batch.

    Returns:
        The Trainer's log history, of the whole run even if it was resumed.

    Raises:
        DivergedError: if the loss, the gradient or the validation loss becomes NaN or infinite.
        NumericsError: if it is so in the first step, before anything was trained.
    """
    with reporting.arguments() as reports:
        settings = TrainingArguments(**arguments | reports)
        # Without this, every GPU of the machine gets a share of each batch (DataParallel).
        settings._n_gpu = min(settings.n_gpu, 1)
        trainer = _trainer(
            recipe, model=model, args=settings, train_dataset=train, callbacks=[watch], ranks=ranks
        )
        trainer.remove_callback(PrinterCallback)
        if reporting.to:
            # With another control: on its own the log of this step's loss would count as done.
            watch.tell = lambda logs: trainer.callback_handler.on_log(
                settings, trainer.state, TrainerControl(), logs
            )
        folder = None if resume_from is None else str(resume_from.folder)
        trainer.train(resume_from_checkpoint=folder)
        history: list[dict[str, Any]] = trainer.state.log_history
    return history


def _trainer(recipe: FineTuningRecipe, **given: Any) -> AnswerTrainer:
    """Choose the loss and how batches are laid out."""
    order = _order(given["train_dataset"], recipe)
    if recipe.distillation is None:
        layout = collate_packed if recipe.packing else collate
        return AnswerTrainer(**given, order=order, data_collator=layout)
    taught = partial(collate_taught, packed=recipe.packing)
    return DistillingTrainer(
        **given, order=order, data_collator=taught, distillation=recipe.distillation
    )


def _order(train: Sequence[TokenisedExample], recipe: FineTuningRecipe) -> LengthGroups | None:
    if not recipe.group_by_length:
        return None
    lengths = [len(example.input_ids) for example in train]
    return LengthGroups(lengths, batch_size=recipe.batch_size, seed=recipe.seed)
