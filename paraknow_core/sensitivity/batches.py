"""Samples that go through the model together, and where their rows are in its tensors.

Samples of a batch are padded on the right. Attention is causal, so no token of a sample sees the
padding behind it, and no loss depends on it: what a sample computes is what it computes alone.

Legend: B samples, T tokens of the longest, K places of all of them where a token is predicted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.sensitivity.grouping import used_tokens


@dataclass(frozen=True)
class Batch:
    """What goes through the model together.

    Attributes:
        ids: B × T token numbers; 0 where a sample has no token.
        positions: B × T, of each token in its sample.
        lengths: tokens of each sample.
        keep: K places in the B · T rows where a token is predicted, sample after sample.
        labels: the K tokens that are predicted there.
        predicted: how many of the K are each sample's.
    """

    ids: Tensor
    positions: Tensor
    lengths: tuple[int, ...]
    keep: Tensor
    labels: Tensor
    predicted: tuple[int, ...]

    @classmethod
    def of(cls, samples: Sequence[TokenisedExample], device: str | torch.device) -> "Batch":
        """Pad samples, without the tokens that their losses do not depend on."""
        lengths = tuple(used_tokens(sample) for sample in samples)
        size_T = max(lengths)
        ids_BT = torch.zeros(len(samples), size_T, dtype=torch.long)
        keep, labels, predicted = [], [], []
        for number, (sample, length) in enumerate(zip(samples, lengths, strict=True)):
            ids_BT[number, :length] = torch.tensor(sample.input_ids[:length])
            own = torch.tensor(sample.labels[1 : length + 1])  # position p predicts token p + 1
            (places,) = (own != NO_LOSS).nonzero(as_tuple=True)
            keep.append(number * size_T + places)
            labels.append(own[places])
            predicted.append(len(places))
        return cls(
            ids=ids_BT.to(device),
            positions=torch.arange(size_T, device=device).expand(len(samples), -1),
            lengths=lengths,
            keep=torch.cat(keep).to(device),
            labels=torch.cat(labels).to(device),
            predicted=tuple(predicted),
        )

    def rows(self, count: int) -> list[slice]:
        """Where each sample's rows are in a tensor of as many rows, padding left out.

        Args:
            count: B · T, of what goes into a layer; or K, of what goes into the head.
        """
        size_B, size_T = self.ids.shape
        if count == size_B * size_T:
            return [slice(b * size_T, b * size_T + t) for b, t in enumerate(self.lengths)]
        ends = torch.tensor(self.predicted).cumsum(0).tolist()
        if count != ends[-1]:
            raise AssertionError(f"{count} rows are neither all tokens nor all predictions")
        return [slice(end - size, end) for end, size in zip(ends, self.predicted, strict=True)]
