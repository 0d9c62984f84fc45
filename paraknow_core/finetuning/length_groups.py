"""The order of examples in which those of one batch are about as long as each other."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class LengthGroups(Sampler[int]):
    """Draws examples as Transformers' ``group_by_length`` does, but from a generator of its own.

    A random order is cut into stretches of some batches, and each is sorted by length. The
    Trainer's own sampler draws from torch's global state, from which dropout draws as well: then
    two adapters with one seed would see other batches, and so would a resumed run.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int) -> None:
        """Set what the order depends on.

        Args:
            lengths: tokens of each example.
            batch_size: examples an optimizer step.
            seed: of the training; each epoch has an order of its own.
        """
        self._lengths = list(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch is next; the Trainer does."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch)
        indices: Any = get_length_grouped_indices
        return iter(indices(self._lengths, self._batch_size, generator=generator))
