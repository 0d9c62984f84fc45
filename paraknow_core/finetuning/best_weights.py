"""What training had learned when validation was best."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

BEST = "best.safetensors"
"""The file of a checkpoint that holds the best weights up to there."""


class BestWeights:
    """The trained parameters at the best validation so far, kept on the CPU and in checkpoints."""

    def __init__(self, trained: Mapping[str, torch.nn.Parameter]) -> None:
        """Set which parameters are kept; nothing is kept yet."""
        self._trained = trained
        self._kept: dict[str, Tensor] = {}

    def keep(self) -> None:
        """Keep the parameters as they are now."""
        self._kept = {n: p.detach().to("cpu", copy=True) for n, p in self._trained.items()}

    def write(self, folder: Path) -> None:
        """Write what is kept beside a checkpoint; nothing before the first validation."""
        if self._kept:
            save_file({n: held.contiguous() for n, held in self._kept.items()}, folder / BEST)

    def read(self, folder: Path) -> None:
        """Take over what ``write`` wrote there, if anything."""
        if (folder / BEST).is_file():
            self._kept = load_file(folder / BEST)

    def put_back(self) -> None:
        """Set the parameters to what is kept, if anything is."""
        with torch.no_grad():
            for name, held in self._kept.items():
                self._trained[name].copy_(held)
