"""The running sums of a sensitivity run on disk, so that a killed run loses no whole sample twice.

The sums lie in ``sums-<samples>.safetensors``; ``progress.json`` names the file that counts. Each
is written beside its place, flushed to the disk and renamed, and the old sums go last: whenever
the process is killed, ``progress.json`` names complete sums.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paraknow_core.checkpoint.safetensors_header import read_header
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.durable_files import settle
from paraknow_core.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORMAT = 1
_BREATHER = 20
"""A save waits for this many times the duration of the last one: at most 5 % of the time is spent
on saving, however slow the disk and large the model."""
_SAMPLE_BYTES = 4096
"""Bytes of each parameter that go into the fingerprint."""


def run_fingerprint(model: "PreTrainedModel", samples: Sequence[TokenisedExample]) -> str:
    """Hash what the sums depend on: samples in order, parameters' names, shapes, dtypes, values.

    Of each parameter's values only the first 4 KiB are hashed: enough to tell models apart,
    without reading them all.
    """
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps([sample.input_ids, sample.labels]).encode())
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
        first = parameter.detach().flatten()[: _SAMPLE_BYTES // parameter.element_size()]
        digest.update(bytes(first.cpu().view(torch.uint8).tolist()))
    return digest.hexdigest()


@dataclass
class SensitivityCheckpoint:
    """Where and how often to save.

    Attributes:
        folder: of its own for one run; made when needed.
        every_seconds: save after the first whole sample that ends this long after the last save,
            and not before 20 times the last save's duration has passed (so that saving takes at
            most 5 % of the time); 0 saves after every sample, whatever it takes.
    """

    folder: Path
    every_seconds: float = 60.0
    _last_save: float = field(init=False)
    _last_duration: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._last_save = time.monotonic()

    def restore(self, sums: Mapping[str, Tensor], fingerprint: str) -> int:
        """Fill ``sums`` from the folder, if it holds sums of the same run.

        Args:
            sums: zeros by parameter name; overwritten in place.
            fingerprint: of this run, by ``run_fingerprint``.

        Returns:
            Number of samples that the sums contain; 0, with ``sums`` zero, if there are none, they
            are of another run, or they are damaged (they only save work).
        """
        from safetensors import SafetensorError, safe_open

        try:
            state = json.loads((self.folder / "progress.json").read_text())
            if (state["format"], state["fingerprint"]) != (_FORMAT, fingerprint):
                return 0
            done = int(state["samples"])
            path = self._sums_path(done)
            read_header(path)
            with safe_open(path, "pt") as file:
                for name, tensor in sums.items():
                    tensor.copy_(file.get_tensor(name))
        except (OSError, ValueError, KeyError, TypeError, CheckpointError, SafetensorError):
            for tensor in sums.values():
                tensor.zero_()  # some may have been filled already
            return 0
        return done

    def save_if_due(self, sums: Mapping[str, Tensor], samples_done: int, fingerprint: str) -> bool:
        """Save after a whole sample, if it is time; returns whether it did.

        Args:
            sums: float32 Σ|g| by parameter name.
            samples_done: how many samples they contain.
            fingerprint: of this run, by ``run_fingerprint``.
        """
        pause = max(self.every_seconds, _BREATHER * self._last_duration)
        if self.every_seconds > 0 and time.monotonic() - self._last_save < pause:
            return False
        start = time.monotonic()
        self._save(sums, samples_done, fingerprint)
        self._last_save = time.monotonic()
        self._last_duration = self._last_save - start
        return True

    def _save(self, sums: Mapping[str, Tensor], samples_done: int, fingerprint: str) -> None:
        from safetensors.torch import save_file

        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._sums_path(samples_done)
        beside = path.with_name(path.name + ".part")
        save_file({name: tensor.contiguous() for name, tensor in sums.items()}, beside)
        settle(beside, path)
        state = {"format": _FORMAT, "fingerprint": fingerprint, "samples": samples_done}
        beside = self.folder / "progress.json.part"
        beside.write_text(json.dumps(state))
        settle(beside, self.folder / "progress.json")
        for old in self.folder.glob("sums-*.safetensors*"):
            if old != path:
                old.unlink(missing_ok=True)

    def _sums_path(self, samples_done: int) -> Path:
        return self.folder / f"sums-{samples_done:06d}.safetensors"
