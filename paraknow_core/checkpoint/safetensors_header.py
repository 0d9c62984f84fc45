"""The header of a safetensors file, checked before a byte of its tensors is read.

The format allows a header that no honest program writes: one name twice, a name that is a path, a
million tensors, byte ranges that overlap or reach beyond the file. All of them are refused here, so
that code that reads the tensors can trust names, shapes and offsets. Needs no torch.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paraknow_core.errors import CheckpointError
from paraknow_core.strict_data import NotStrictError, open_regular, parse_json

MAX_HEADER_BYTES = 16 * 1024**2
"""A 126-layer model of one file needs about 0.2 MiB; the format itself allows 100 MB."""
MAX_TENSORS = 65_536
MAX_DIMENSIONS = 8
MAX_DIMENSION = 2**40

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]|\.(?!\.)){0,254}", re.ASCII)

BYTES_PER_ELEMENT: Mapping[str, int] = MappingProxyType(
    {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
        "I16": 2,
        "U16": 2,
        "F16": 2,
        "BF16": 2,
        "I32": 4,
        "U32": 4,
        "F32": 4,
        "I64": 8,
        "U64": 8,
        "F64": 8,
        "C64": 8,
    }
)
"""The element types this project reads, by their names in the format."""


@dataclass(frozen=True)
class TensorHeader:
    """What the header of a file says about one tensor.

    Attributes:
        dtype: the format's name, such as ``"BF16"``; a key of ``BYTES_PER_ELEMENT``.
        shape: row-major dimensions; ``()`` for a scalar.
        offsets: first byte and one past the last, counted from the first byte of the *file*.
    """

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @property
    def num_elements(self) -> int:
        """The product of the dimensions."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Read and check the header of a safetensors file; no tensor bytes are read.

    Args:
        path: the file.

    Returns:
        Every tensor by name, in the order of its bytes in the file.

    Raises:
        CheckpointError: if the file is missing, truncated or longer than its header says, if
            the header is no JSON object, is too large or has too many tensors, or if a name,
            element type, dimension or byte range is not acceptable. Names the file.
    """
    path = Path(path)
    raw, data_start, file_size = _raw_header(path)
    entries = _parse(raw, path)
    if len(entries) > MAX_TENSORS:
        raise CheckpointError(
            f"{path}: the header names {len(entries)} tensors, at most {MAX_TENSORS} are read. "
            "Split the checkpoint into several files."
        )
    headers = {name: _entry(name, entry, data_start, path) for name, entry in entries.items()}
    ordered = dict(sorted(headers.items(), key=lambda item: item[1].offsets))
    _check_ranges(ordered, data_start, file_size, path)
    return ordered


def _raw_header(path: Path) -> tuple[bytes, int, int]:
    """The header's bytes, the offset of the first tensor byte, and the size of the file."""
    try:
        with open_regular(path, refuse=CheckpointError) as file:
            file_size = os.fstat(file.fileno()).st_size
            length_bytes = file.read(8)
            length = int.from_bytes(length_bytes, "little")
            if len(length_bytes) < 8 or 8 + length > file_size:
                raise CheckpointError(
                    f"{path}: truncated, or not a safetensors file: it has {file_size} bytes and "
                    f"its header alone would need {8 + length}. Download or write it again."
                )
            if length > MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path}: a header of {length} bytes, at most {MAX_HEADER_BYTES} are read. "
                    "Split the checkpoint into several files."
                )
            return file.read(length), 8 + length, file_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from error


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        entries = parse_json(raw)
    except NotStrictError as error:
        raise CheckpointError(f"{path}: the header is not valid JSON ({error}).") from error
    if not isinstance(entries, dict):
        raise CheckpointError(
            f"{path}: the header is a JSON {type(entries).__name__}, not an object."
        )
    entries.pop("__metadata__", None)  # free text by the program that wrote the file; not used
    return entries


def _entry(name: str, entry: object, data_start: int, path: Path) -> TensorHeader:
    if not _NAME.fullmatch(name):
        raise CheckpointError(
            f"{path}: the tensor name {name[:80]!r} is refused; a name is 1 to 255 of letters, "
            "digits, '_', '-' and single dots."
        )
    where = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CheckpointError(f"{where} needs exactly dtype, shape and data_offsets in the header.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES_PER_ELEMENT:
        raise CheckpointError(
            f"{where} has element type {str(dtype)[:20]!r}; known are "
            f"{', '.join(BYTES_PER_ELEMENT)}."
        )
    if not _integers(shape, MAX_DIMENSION) or len(shape) > MAX_DIMENSIONS:
        raise CheckpointError(
            f"{where} has shape {str(shape)[:80]}; allowed are at most {MAX_DIMENSIONS} dimensions "
            f"of 0 to {MAX_DIMENSION}."
        )
    if not _integers(offsets, 2**62) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(
            f"{where} has data_offsets {str(offsets)[:80]}, which is no byte range."
        )
    needed = math.prod(shape) * BYTES_PER_ELEMENT[dtype]
    if offsets[1] - offsets[0] != needed:
        raise CheckpointError(
            f"{where} has {offsets[1] - offsets[0]} bytes, but {dtype} {tuple(shape)} needs "
            f"{needed}."
        )
    return TensorHeader(dtype, tuple(shape), (data_start + offsets[0], data_start + offsets[1]))


def _integers(values: object, limit: int) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v <= limit for v in values)


def _check_ranges(
    headers: Mapping[str, TensorHeader], data_start: int, file_size: int, path: Path
) -> None:
    """Every byte after the header belongs to exactly one tensor."""
    expected = data_start
    for name, header in headers.items():
        if header.offsets[0] != expected:
            raise CheckpointError(
                f"{path}: tensor {name!r} starts at byte {header.offsets[0]}, but the one before "
                f"it ends at {expected}; bytes must neither overlap nor be left over."
            )
        expected = header.offsets[1]
    if expected != file_size:
        raise CheckpointError(
            f"{path}: truncated or padded: its tensors end at byte {expected}, the file at "
            f"{file_size}. Download or write it again."
        )
