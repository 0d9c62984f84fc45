"""Which rows each process of a training takes of each batch."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch.utils.data import BatchSampler, Sampler

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.distillation.targets import TaughtExample
from paraknow_core.finetuning.ranks import Ranks


class RankBatches(BatchSampler):
    """The micro-batches of one process, so that each step has the batch that one process has.

    A batch is cut into the same micro-batches as in one process, which are dealt out in turn. In
    the last, shorter batch of an epoch some processes may get one less: they run an idle row there,
    without loss, because all have to meet where gradients are summed. (Accelerate's own sampler
    repeats rows instead, which would change what is trained.)
    """

    def __init__(
        self, order: Sampler[int], *, batch_size: int, at_once: int, ranks: Ranks, idle: int
    ) -> None:
        """Set what is dealt out.

        Args:
            order: of the rows of an epoch, the same in every process.
            batch_size: rows of an optimizer step, over all processes.
            at_once: rows of a micro-batch; times the processes it divides the batch size.
            ranks: this process among them.
            idle: number of the row that is run where there is nothing to do.
        """
        super().__init__(order, at_once, drop_last=False)
        self._order: Any = order
        self._whole = batch_size
        self._at_once = at_once
        self._ranks = ranks
        self._idle = idle

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next; the Trainer does."""
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        full, rest = divmod(len(self._order), self._whole)
        return full * self._turns(self._whole) + self._turns(rest)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self._order)
        for start in range(0, len(rows), self._whole):
            batch = rows[start : start + self._whole]
            for turn in range(self._turns(len(batch))):
                at = (turn * self._ranks.count + self._ranks.number) * self._at_once
                yield batch[at : at + self._at_once] or [self._idle]

    def _turns(self, rows: int) -> int:
        """Micro-batches that each process has of so many rows."""
        return math.ceil(rows / (self._at_once * self._ranks.count))


def idle_row(like: TokenisedExample) -> TokenisedExample:
    """Return a row of one token and no answer, of the same kind as another."""
    short = replace(like, input_ids=like.input_ids[:1], labels=(NO_LOSS,))
    if isinstance(short, TaughtExample):
        of = short.targets
        none = type(of)(of.ids_NK[:0], of.log_probs_NK[:0], of.log_rest_N[:0])
        return replace(short, targets=none)
    return short
