"""What a streamed run has so far, saved so that a killed run goes on after its last whole unit.

A save holds what has come since the one before, so the saves are read in their order, and a broken
one ends what can be used: units after it are run again. A save is one of ``partial_results``; in
it are a file for each boundary, the maps that are final, and ``state.json``.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.describe import Architecture
from paraknow_core.partial_results import PartialResults
from paraknow_core.sensitivity.resume import BREATHER
from paraknow_core.sensitivity.streamed.boundaries import Boundary

STATE = "state.json"
_SAMPLE_ELEMENTS = 1024
"""Of each tensor that go into the fingerprint."""


def streamed_fingerprint(
    folder: Path, architecture: Architecture, samples: Sequence[TokenisedExample], *more: str
) -> str:
    """Hash what a streamed run depends on: samples in order, tensors, and ``more``.

    Args:
        folder: of the model.
        architecture: of the model.
        samples: in their order.
        more: settings that change the numbers, such as the compute dtype.
    """
    digest = hashlib.sha256(json.dumps(["streamed", *more]).encode())
    for sample in samples:
        digest.update(json.dumps([sample.input_ids, sample.labels]).encode())
    with Checkpoint(folder) as weights:
        for facts in architecture.tensors:
            digest.update(f"{facts.name} {facts.shape} {facts.dtype}".encode())
            first = weights.first(facts.name, _SAMPLE_ELEMENTS)
            digest.update(first)
    return digest.hexdigest()


@dataclass
class StreamedCheckpoint:
    """Where and how often to save.

    Attributes:
        partial: where the saves are kept.
        every_seconds: save after the first whole unit that ends this long after the last save, and
            not before 20 times the last save's duration has passed (so that saving takes at most
            5 % of the time); 0 saves after every unit.
    """

    partial: PartialResults
    every_seconds: float = 60.0
    _saves: int = field(default=0, init=False)
    _last_save: float = field(init=False)
    _last_duration: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._last_save = time.monotonic()

    def restore(self, run: str) -> list[tuple[Path, dict[str, Any]]]:
        """Find what an earlier run of the same saved.

        Args:
            run: its fingerprint.

        Returns:
            The folders of the saves that follow on each other, first to last, each with its state.
        """
        found: list[tuple[Path, dict[str, Any]]] = []
        done = 0
        for number in count():
            saved = self.partial.find(number, run, [STATE])
            if saved is None:
                break
            state = json.loads((saved.folder / STATE).read_text(encoding="utf-8"))
            if state["from"] != done:
                break  # of a chain that broke before it; it is replaced when its turn comes
            found.append((saved.folder, state))
            done = state["done"]
        self._saves = len(found)
        return found

    def is_due(self) -> bool:
        """Whether it is time to save."""
        pause = max(self.every_seconds, BREATHER * self._last_duration)
        return self.every_seconds == 0 or time.monotonic() - self._last_save >= pause

    def save(
        self,
        run: str,
        state: Mapping[str, Any],
        boundaries: Mapping[str, Boundary],
        files: Sequence[Path],
    ) -> None:
        """Save what came since the last save.

        Args:
            run: the fingerprint.
            state: plain JSON values; ``from`` and ``done`` are the units that it goes from and to.
            boundaries: by the name of the file that each gets.
            files: of maps, to be copied.
        """
        start = time.monotonic()
        draft = self.partial.new_draft()
        for name, boundary in boundaries.items():
            boundary.write(draft / name)
        for path in files:
            shutil.copyfile(path, draft / path.name)
        (draft / STATE).write_text(json.dumps(state), encoding="utf-8")
        self.partial.save(draft, self._saves, run)
        self._saves += 1
        self._last_save = time.monotonic()
        self._last_duration = self._last_save - start
