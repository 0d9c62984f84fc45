"""Weights that were never written: what an unfinished download leaves behind.

A file for which only space was reserved reads as zeros. Such a model loads and runs, and even seems
to transfer. So a matrix of which all elements are the same number is refused, whatever the number.
Biases and norms may be constant (many start that way), and so may some rows of a matrix, because
vocabularies are padded.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.checkpoint.safetensors_header import read_header
from paraknow_core.errors import CheckpointError
from paraknow_core.models.describe import Architecture, Matrix, describe

_FIRST, _MORE = 2**11, 2**22
"""Elements that are read first, and then at a time: of a normal matrix only a page or two."""
_CHUNK = 2**24  # bytes
_SHOWN = 3


def refuse_blank_weights(folder: Path) -> None:
    """Refuse a model with a matrix that was never written.

    Args:
        folder: a model folder, as ``describe`` takes it.

    Raises:
        CheckpointError: if a matrix (of a fused projection, the rows of one role) is one number
            throughout, or a file ends in zeros that fill half of a matrix; names files and
            matrices.
        ModelFolderError, ArchitectureError: as ``describe``.
    """
    folder = Path(folder)
    architecture = describe(folder)
    files = {tensor.name: tensor.file for tensor in architecture.tensors}
    for file in sorted(set(files.values())):
        _refuse_blank_end(folder / file, {matrix.name for matrix in architecture.matrices})
    blank = _constant_matrices(folder, architecture)
    if blank:
        shown = [f"{name} in {files[name]} is {number:g}" for name, number in blank.items()]
        more = f" and {len(blank) - _SHOWN} more matrices are too" if len(blank) > _SHOWN else ""
        raise CheckpointError(
            f"{folder}: {', '.join(shown[:_SHOWN])} throughout{more}. A matrix of one number holds "
            "nothing to take or to train. Is the download complete? Take the model's original "
            "files."
        )


def _constant_matrices(folder: Path, architecture: Architecture) -> dict[str, float]:
    """Tensor name → the one number that it, or a role's rows of it, is made of."""
    found = {}
    with Checkpoint(folder) as weights:
        for matrix in architecture.matrices:
            number = _only_number(weights.read(matrix.name), matrix)
            if number is not None and matrix.num_elements > 1:  # one element is always constant
                found[matrix.name] = number + 0.0  # makes 0.0 of -0.0
    return found


def _only_number(stored: Tensor, matrix: Matrix) -> float | None:
    first = None
    for rows in _pieces(stored, matrix):
        first = rows[0, 0] if first is None else first
        if not bool((rows == first).all()):
            return None
    return None if first is None else float(first)


def _pieces(stored: Tensor, matrix: Matrix) -> Iterator[Tensor]:
    """The rows of a role, block by block; the first piece is small."""
    whole = stored.T if matrix.transposed else stored
    blocks, elements = matrix.blocks, _FIRST
    for block in range(blocks.count):
        start = block * blocks.stride + blocks.offset
        end = start + blocks.size
        while start < end:
            count = max(1, elements // whole.shape[1])
            yield whole[start : min(start + count, end)]
            start, elements = start + count, _MORE


def _refuse_blank_end(path: Path, matrices: set[str]) -> None:
    """Refuse a file that holds only zeros from the middle of its last matrix to its end."""
    headers = [(name, h) for name, h in read_header(path).items() if name in matrices]
    if not headers:
        return
    name, header = headers[-1]
    size, (start, end) = path.stat().st_size, header.offsets
    zeros = _zeros_at_end(path, size, at_least=size - (start + end) // 2)
    if zeros and start < end:
        raise CheckpointError(
            f"{path}: the last {zeros:,} of its {size:,} bytes are zeros, {name} among them. Is "
            "the download complete? Room was reserved for it, and never written. Download the "
            "file again."
        )


def _zeros_at_end(path: Path, size: int, *, at_least: int) -> int:
    """Count the zero bytes at a file's end; 0 if there are fewer than ``at_least``."""
    end, step = size, _FIRST
    with path.open("rb") as file:
        while end > 0:
            begin = max(0, end - step)
            file.seek(begin)
            kept = len(file.read(end - begin).rstrip(b"\0"))
            if kept:
                end = begin + kept
                break
            end, step = begin, _CHUNK
    return size - end if size - end >= at_least else 0
