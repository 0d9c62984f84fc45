"""What passes between layers: one matrix for each sample, in memory or, beyond a limit, in a file.

Legend: T rows of a sample (its tokens), H width.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_COPIED = 16 * 2**20


class Budget:
    """Bytes of memory that the boundaries of all layers may take together.

    Attributes:
        free: how many are left.
    """

    def __init__(self, size: int) -> None:
        self.free = size


class Boundary:
    """A T × H matrix for each sample.

    It is kept in memory if it fits the budget as a whole, else in a file of its own.
    """

    def __init__(
        self, path: Path, lengths: Sequence[int], width: int, dtype: torch.dtype, budget: Budget
    ) -> None:
        """Make room; nothing is written yet.

        Args:
            path: of the file, if there has to be one.
            lengths: T of each sample.
            width: H of all.
            dtype: of the elements.
            budget: that the memory is taken from; ``drop`` gives it back.
        """
        self._path, self._dtype, self._width, self._budget = path, dtype, width, budget
        self._starts = [0, *accumulate(lengths)]
        self._memory: Tensor | None = None
        if self.nbytes <= budget.free:
            budget.free -= self.nbytes
            self._memory = torch.empty(self._starts[-1], width, dtype=dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all samples together."""
        return self._starts[-1] * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return self._width * self._dtype.itemsize

    def put(self, sample: int, rows_TH: Tensor) -> None:
        """Keep the matrix of a sample; one of fewer rows than the sample has fills the first."""
        rows_TH = rows_TH.detach().to(self._dtype)
        start = self._starts[sample]
        if self._memory is not None:
            self._memory[start : start + len(rows_TH)].copy_(rows_TH)
            return
        mode = "r+b" if self._path.exists() else "wb"
        with self._path.open(mode) as file:
            file.seek(start * self._row_bytes)
            file.write(_bytes_of(rows_TH.cpu().contiguous()))

    def get(self, sample: int, rows: int | None = None) -> Tensor:
        """The matrix of a sample on the CPU, or its first rows; not to be written to."""
        start, stop = self._starts[sample], self._starts[sample + 1]
        stop = stop if rows is None else start + rows
        if self._memory is not None:
            return self._memory[start:stop]
        found = torch.empty(stop - start, self._width, dtype=self._dtype)
        with self._path.open("rb") as file:
            file.seek(start * self._row_bytes)
            if file.readinto(_bytes_of(found)) != found.nbytes:
                raise OSError(f"{self._path}: ends before sample {sample}.")
        return found

    def write(self, path: Path) -> None:
        """Write all samples to a file, in order."""
        with path.open("wb") as file:
            if self._memory is not None:
                file.write(_bytes_of(self._memory))
                return
            with self._path.open("rb") as mine:
                while piece := mine.read(_COPIED):
                    file.write(piece)
            file.truncate(self.nbytes)

    def read(self, path: Path) -> None:
        """Take over all samples from a file that ``write`` wrote."""
        for sample in range(len(self._starts) - 1):
            rows = self._starts[sample + 1] - self._starts[sample]
            found = torch.empty(rows, self._width, dtype=self._dtype)
            with path.open("rb") as file:
                file.seek(self._starts[sample] * self._row_bytes)
                if file.readinto(_bytes_of(found)) != found.nbytes:
                    raise OSError(f"{path}: ends before sample {sample}.")
            self.put(sample, found)

    def drop(self) -> None:
        """Let go of memory or file."""
        if self._memory is None:
            self._path.unlink(missing_ok=True)
        else:
            self._memory = None
            self._budget.free += self.nbytes


def _bytes_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, which a file may be read into."""
    if math.prod(tensor.shape) == 0:
        return memoryview(b"")
    array: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(array)
