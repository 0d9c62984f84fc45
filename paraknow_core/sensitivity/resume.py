"""The running sums of a sensitivity run, saved to disk so that a killed run continues from them.

Each save holds the sums of all samples so far, and its number is the number of these samples. The
previous save is deleted when the new one is sealed (``partial_results``).
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.partial_results import PartialResults

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SUMS = "sums.safetensors"
BREATHER = 20
"""A save waits for this many times the duration of the last one: at most 5 % of the time is spent
on saving, however slow the disk and large the model."""
_SAMPLE_BYTES = 4096
"""Bytes of each parameter that go into the fingerprint."""


def run_fingerprint(
    model: "PreTrainedModel",
    samples: Sequence[TokenisedExample],
    together: Sequence[Sequence[int]],
) -> str:
    """Hash what the sums depend on: samples, their batches, names, shapes, dtypes, values.

    Of each parameter's values only the first 4 KiB are hashed: enough to tell models apart,
    without reading them all.
    """
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.input_ids, sample.labels]).encode())
    digest.update(json.dumps(together).encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        first = parameter.detach().flatten()[: _SAMPLE_BYTES // parameter.element_size()]
        digest.update(bytes(first.cpu().view(torch.uint8).tolist()))
    return digest.hexdigest()


@dataclass
class SensitivityCheckpoint:
    """Where and how often to save.

    Attributes:
        partial: where the saves are kept.
        every_seconds: save after the first whole sample that ends this long after the last save,
            and not before 20 times the last save's duration has passed (so that saving takes at
            most 5 % of the time); 0 saves after every sample, whatever it takes.
    """

    partial: PartialResults
    every_seconds: float = 60.0
    _last_save: float = field(init=False)
    _last_duration: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._last_save = time.monotonic()

    def restore(self, sums: Mapping[str, Tensor], fingerprint: str) -> int:
        """Fill ``sums`` with those of an earlier run of the same, if there are any.

        Args:
            sums: zeros by parameter name; overwritten in place.
            fingerprint: of this run, by ``run_fingerprint``.

        Returns:
            Number of samples that the sums contain; 0, with ``sums`` zero, if there are none.
        """
        from safetensors import SafetensorError, safe_open

        saved = self.partial.newest(fingerprint, [_SUMS])
        if saved is None:
            return 0
        try:
            with safe_open(saved.folder / _SUMS, "pt") as file:
                for name, tensor in sums.items():
                    tensor.copy_(file.get_tensor(name))
        except (OSError, SafetensorError):  # deleted or damaged after it was checked
            for tensor in sums.values():
                tensor.zero_()  # some may have been filled already
            return 0
        return saved.number

    def save_if_due(self, sums: Mapping[str, Tensor], samples_done: int, fingerprint: str) -> bool:
        """Save after a whole sample, if it is time; returns whether it did.

        Args:
            sums: float32 Σ|g| by parameter name.
            samples_done: how many samples they contain.
            fingerprint: of this run, by ``run_fingerprint``.
        """
        pause = max(self.every_seconds, BREATHER * self._last_duration)
        if self.every_seconds > 0 and time.monotonic() - self._last_save < pause:
            return False
        start = time.monotonic()
        self._save(sums, samples_done, fingerprint)
        self._last_save = time.monotonic()
        self._last_duration = self._last_save - start
        return True

    def _save(self, sums: Mapping[str, Tensor], samples_done: int, fingerprint: str) -> None:
        from safetensors.torch import save_file

        draft = self.partial.new_draft()
        save_file({name: tensor.contiguous() for name, tensor in sums.items()}, draft / _SUMS)
        self.partial.save(draft, samples_done, fingerprint)
        self.partial.keep_newest(1)
