"""How far two versions of a file are apart: bit-equal, or by how much, tensor by tensor.

Two measures of each tensor or column of numbers a and b, both 0 for equal ones and infinite where
only one is finite or shapes differ: ``relative`` is the largest |a − b| / max(|a|, |b|) of one
element, up to 2, which one value near zero can make large; ``of_largest`` is the largest |a − b| as
a share of the largest |a|.
"""

import filecmp
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraknow_core.errors import DataError
from paraknow_core.strict_data import read_json

if TYPE_CHECKING:
    import torch

_CHUNK = 1 << 22  # elements compared at a time, in float64: about 100 MB


@dataclass(frozen=True)
class Difference:
    """One part of a file that differs.

    Attributes:
        part: a tensor's, column's or JSON field's name; "" for the file as a whole.
        relative: largest relative difference of one element, None where it is no number.
        of_largest: largest difference as a share of the largest magnitude, None likewise.
        note: anything else to report.
    """

    part: str
    relative: float | None = None
    of_largest: float | None = None
    note: str = ""


@dataclass(frozen=True)
class FileComparison:
    """One file: bit-equal, or what differs in it (nothing, if only the encoding does)."""

    name: str
    equal: bool
    differences: tuple[Difference, ...] = ()


def compare_folders(old: Mapping[str, Path], new: Mapping[str, Path]) -> list[FileComparison]:
    """Compare files by name.

    Args:
        old: name → path of each file as it was.
        new: the same as it is now.

    Returns:
        One comparison for each name of either, in name order.
    """
    return [
        _compare(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())
    ]


def _compare(name: str, old: Path | None, new: Path | None) -> FileComparison:
    if old is None or new is None:
        note = "is missing now" if new is None else "was not there before"
        return FileComparison(name, False, (Difference("", note=note),))
    if filecmp.cmp(old, new, shallow=False):
        return FileComparison(name, True)
    read = _READERS.get(Path(name).suffix, _as_bytes)
    return FileComparison(name, False, tuple(read(old, new)))


def _as_bytes(old: Path, new: Path) -> Iterator[Difference]:
    sizes = f"{old.stat().st_size} and {new.stat().st_size} bytes"
    yield Difference("", note=f"differs ({sizes})")


def _as_tensors(old: Path, new: Path) -> Iterator[Difference]:
    from safetensors import safe_open

    with safe_open(old, framework="pt") as a, safe_open(new, framework="pt") as b:
        first, second = set(a.keys()), set(b.keys())
        for name in sorted(first | second):
            if name not in first or name not in second:
                yield _one_sided(name, name in first)
            elif found := compare_tensors(name, a.get_tensor(name), b.get_tensor(name)):
                yield found


def compare_tensors(name: str, a: "torch.Tensor", b: "torch.Tensor") -> Difference | None:
    """Compare two tensors of any dtype element by element; None if they are equal.

    NaN equals NaN, and an infinity itself.
    """
    import torch

    if a.shape != b.shape or a.dtype != b.dtype:
        note = f"{a.dtype} {list(a.shape)} became {b.dtype} {list(b.shape)}"
        return Difference(name, math.inf, math.inf, note)
    differs, relative, absolute, largest = False, 0.0, 0.0, 0.0
    for start in range(0, a.numel(), _CHUNK):
        part = slice(start, start + _CHUNK)
        x, y = (t.flatten()[part].to(torch.float64) for t in (a, b))
        same = (x == y) | (x.isnan() & y.isnan())
        gap = torch.where(same, 0.0, (x - y).abs()).nan_to_num(math.inf, math.inf)
        size = torch.maximum(x.abs(), y.abs())
        ratio = torch.where(same | (gap == math.inf), gap, gap / size)
        differs = differs or not bool(same.all())
        relative = max(relative, _largest(ratio))
        absolute = max(absolute, _largest(gap))
        largest = max(largest, _largest(x.abs()[x.isfinite()]))
    if not differs:
        return None
    note = "" if math.isfinite(absolute) else "NaN or infinity on one side"
    return Difference(name, relative, absolute / largest if largest else math.inf, note)


def _largest(values: "torch.Tensor") -> float:
    return float(values.max()) if values.numel() else 0.0


def _as_table(old: Path, new: Path) -> Iterator[Difference]:
    import pyarrow.parquet as pq

    a, b = pq.read_table(old), pq.read_table(new)
    if a.num_rows != b.num_rows:
        yield Difference("", math.inf, math.inf, f"{a.num_rows} rows became {b.num_rows}")
        return
    first, second = set(a.column_names), set(b.column_names)
    for name in sorted(first | second):
        if name not in first or name not in second:
            yield _one_sided(name, name in first)
        elif found := _compare_columns(name, a.column(name), b.column(name)):
            yield found


def _compare_columns(name: str, a: Any, b: Any) -> Difference | None:
    import torch
    from pyarrow import types

    if a.equals(b):
        return None
    numbers = [types.is_integer(c.type) or types.is_floating(c.type) for c in (a, b)]
    if all(numbers) and a.null_count == b.null_count == 0:
        x, y = (torch.tensor(c.to_pylist(), dtype=torch.float64) for c in (a, b))
        return compare_tensors(name, x, y)
    pairs = zip(a.to_pylist(), b.to_pylist(), strict=True)
    rows = sum(x != y for x, y in pairs)
    return Difference(name, note=f"{rows} of {len(a)} rows differ")


def _as_json(old: Path, new: Path) -> Iterator[Difference]:
    a, b = (
        dict(_leaves("", read_json(old, refuse=DataError))),
        dict(_leaves("", read_json(new, refuse=DataError))),
    )
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            yield _one_sided(name, name in a)
        elif a[name] != b[name]:
            yield _compare_values(name, a[name], b[name])


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, item in items:
            yield from _leaves(f"{path}.{name}" if path else str(name), item)
    else:
        yield path, value


def _compare_values(name: str, a: object, b: object) -> Difference:
    if type(a) in (int, float) and type(b) in (int, float):
        x, y = float(str(a)), float(str(b))
        gap = abs(x - y)
        largest = abs(x)
        return Difference(name, gap / max(abs(x), abs(y)), gap / largest if largest else math.inf)
    return Difference(name, note=f"{json.dumps(a)} became {json.dumps(b)}")


def _one_sided(name: str, before: bool) -> Difference:
    note = "is missing now" if before else "was not there before"
    return Difference(name, math.inf, math.inf, note)


_READERS: Mapping[str, Callable[[Path, Path], Iterator[Difference]]] = {
    ".safetensors": _as_tensors,
    ".parquet": _as_table,
    ".json": _as_json,
}
