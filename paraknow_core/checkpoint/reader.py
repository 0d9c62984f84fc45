"""Lazy reads of safetensors folders: whole tensors or rectangles of them, from the mapped files.

Files are mapped privately: a page is read when it is touched, a write to a tensor that was read
stays in memory, and the file never changes.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from paraknow_core.checkpoint.model_folder import INDEX, SINGLE, read_headers, weight_files
from paraknow_core.checkpoint.safetensors_header import BYTES_PER_ELEMENT, TensorHeader
from paraknow_core.errors import CheckpointError, ModelFolderError

TORCH_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "I16": torch.int16,
        "U16": torch.uint16,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I32": torch.int32,
        "U32": torch.uint32,
        "F32": torch.float32,
        "I64": torch.int64,
        "U64": torch.uint64,
        "F64": torch.float64,
        "C64": torch.complex64,
    }
)
"""The element types of safetensors, as torch's dtypes."""


PIECE = 16 * 2**20
"""Bytes that ``load`` reads at a time; a multiple of every element's size."""


class Checkpoint:
    """The tensors of a folder, by name; a file is mapped when its first tensor is read.

    A model folder (``model.safetensors``, or shards with their index) is read as such; in any
    other folder every ``*.safetensors`` file belongs to it. Usable as a context manager.
    """

    def __init__(self, folder: Path) -> None:
        """Read and check the headers of all files.

        Raises:
            ModelFolderError: if the folder is missing or has no safetensors file.
            CheckpointError: if a file is corrupt or the index disagrees with the files.
        """
        self.folder = Path(folder)
        self._headers = read_headers(self.folder, _files(self.folder))
        self._maps: dict[str, Tensor] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the mapped files; tensors that ``read`` returned stay valid."""
        self._maps.clear()

    @property
    def names(self) -> tuple[str, ...]:
        """Every tensor's name, sorted."""
        return tuple(sorted(self._headers))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor; raises CheckpointError if there is none of that name."""
        return self._find(name)[0].shape

    def dtype(self, name: str) -> torch.dtype:
        """The element type of a tensor; raises CheckpointError if there is none of that name."""
        return TORCH_DTYPES[self._find(name)[0].dtype]

    def nbytes(self, name: str) -> int:
        """Bytes of a stored tensor; raises CheckpointError if there is none of that name."""
        start, end = self._find(name)[0].offsets
        return end - start

    def read(self, name: str) -> Tensor:
        """A whole tensor, as a view of the mapped file.

        Returns:
            The tensor in its stored shape and dtype, on the CPU. Its pages are read when used;
            writing to it copies the page and leaves the file alone.

        Raises:
            CheckpointError: if there is no tensor of that name.
        """
        header, file = self._find(name)
        raw = self._map(file)[header.offsets[0] : header.offsets[1]]
        if header.offsets[0] % BYTES_PER_ELEMENT[header.dtype]:
            raw = raw.clone()  # the format does not promise alignment, torch's view needs it
        return raw.view(TORCH_DTYPES[header.dtype]).view(header.shape)

    def load(self, name: str, dtype: torch.dtype) -> Tensor:
        """A whole tensor in memory of its own: read piece by piece, and no file is mapped.

        So what a process takes is the tensor and 16 MiB, by whatever rule its memory is limited.

        Args:
            name: of the tensor.
            dtype: that its elements are turned into.

        Returns:
            The tensor in its stored shape, on the CPU.

        Raises:
            CheckpointError: if there is no tensor of that name, or its bytes cannot be read.
        """
        loaded = torch.empty(self.shape(name), dtype=dtype)
        flat = loaded.view(-1)
        buffer = torch.empty(min(PIECE, self.nbytes(name)), dtype=torch.uint8)
        for first, piece in self.pieces(name, lambda: buffer):
            flat[first : first + len(piece)] = piece
        return loaded

    def pieces(self, name: str, buffer: Callable[[], Tensor]) -> Iterator[tuple[int, Tensor]]:
        """A tensor's elements in order, as they are stored; no file is mapped.

        Args:
            name: of the tensor.
            buffer: gives the bytes that the next piece is read into, uint8 on the CPU, a multiple
                of every element's size. A piece lasts as long as they are not given again.

        Yields:
            The number of the piece's first element, and its elements in one dimension.

        Raises:
            CheckpointError: if there is no tensor of that name, or its bytes cannot be read.
        """
        header, file = self._find(name)
        size, done = BYTES_PER_ELEMENT[header.dtype], 0
        count = self.nbytes(name) // size
        try:
            with (self.folder / file).open("rb") as opened:
                opened.seek(header.offsets[0])
                while done < count:
                    piece = buffer()[: (count - done) * size]
                    array: Any = piece.numpy()
                    if opened.readinto(memoryview(array)) != len(piece):
                        raise CheckpointError(f"{self.folder / file}: ends within tensor {name!r}.")
                    yield done, piece.view(TORCH_DTYPES[header.dtype])
                    done += len(piece) // size
        except OSError as error:
            raise CheckpointError(
                f"{self.folder / file}: tensor {name!r} cannot be read ({error})."
            ) from error

    def first(self, name: str, count: int) -> bytes:
        """The stored bytes of a tensor's first elements, without mapping the file.

        Args:
            name: of the tensor.
            count: of elements; a tensor of fewer gives all.

        Raises:
            CheckpointError: if there is no tensor of that name.
        """
        header, file = self._find(name)
        size = min(count * BYTES_PER_ELEMENT[header.dtype], header.offsets[1] - header.offsets[0])
        with (self.folder / file).open("rb") as opened:
            opened.seek(header.offsets[0])
            return opened.read(size)

    def read_slice(self, name: str, rows: slice, cols: slice) -> Tensor:
        """A rectangle of a matrix; only the pages of those rows and columns are read.

        Args:
            name: a tensor of two dimensions.
            rows: start and stop inside its rows; no step. ``slice(None)`` for all.
            cols: the same for its columns.

        Returns:
            A contiguous copy in the stored dtype, on the CPU.

        Raises:
            CheckpointError: if there is no such matrix, or the rectangle reaches beyond it.
        """
        shape = self.shape(name)
        if len(shape) != 2:
            raise CheckpointError(
                f"{self.folder}: tensor {name!r} of shape {shape} is no matrix to cut a rectangle "
                "from; read it whole."
            )
        for part, size, what in ((rows, shape[0], "rows"), (cols, shape[1], "columns")):
            start, stop = part.start or 0, size if part.stop is None else part.stop
            if part.step not in (None, 1) or not 0 <= start <= stop <= size:
                raise CheckpointError(
                    f"{self.folder}: {what} {start}..{stop} of tensor {name!r} are asked for, "
                    f"allowed are 0..{size} without a step."
                )
        return self.read(name)[rows, cols].clone(memory_format=torch.contiguous_format)

    def _find(self, name: str) -> tuple[TensorHeader, str]:
        if name not in self._headers:
            raise CheckpointError(
                f"{self.folder}: no tensor {name!r}; it holds {len(self._headers)}, such as "
                f"{', '.join(self.names[:3])}."
            )
        return self._headers[name]

    def _map(self, file: str) -> Tensor:
        """The bytes of a file, mapped."""
        if file not in self._maps:
            path = self.folder / file
            size = max(header.offsets[1] for header, held in self._headers.values() if held == file)
            try:
                self._maps[file] = torch.from_file(
                    str(path), shared=False, size=size, dtype=torch.uint8
                )
            except RuntimeError as error:
                raise CheckpointError(f"{path}: cannot be mapped ({error}).") from error
        return self._maps[file]


def _files(folder: Path) -> tuple[str, ...]:
    if (folder / INDEX).is_file() or (folder / SINGLE).is_file() or not folder.is_dir():
        return weight_files(folder)
    files = tuple(sorted(path.name for path in folder.glob("*.safetensors")))
    if not files:
        raise ModelFolderError(f"{folder}: holds no safetensors file.")
    return files
