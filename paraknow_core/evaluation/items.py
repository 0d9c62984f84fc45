"""The items of a test: what a model is asked, and what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from paraknow_core.errors import DataError


@dataclass(frozen=True)
class Item:
    """What the model answered to one row, and how likely the right answer was to it.

    ``nll`` is in nats, summed over the answer's ``tokens`` (the end-of-sequence token excluded);
    NaN or infinite where the model's numbers overflow.
    ``extracted`` is the part of the generated text that was compared, ``expected`` the part of the
    right answer that it was compared with, the first of several; empty in a row without an answer,
    whose ``tokens`` and ``nll`` are 0. ``measured`` holds further values by name, where the
    evaluator gave some.
    """

    id: str
    prompt: str
    answer: str
    nll: float
    tokens: int
    generated: str
    extracted: str
    expected: str
    correct: bool
    measured: Mapping[str, float] = field(default_factory=dict)


_FIELDS = tuple(each.name for each in fields(Item) if each.name != "measured")


@dataclass(frozen=True)
class Question:
    """A row as the harness gets it: its texts, and the token numbers that training would use.

    A row without an answer has no ``answer_ids``. ``references`` are further right answers.
    """

    id: str
    prompt: str
    answer: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    references: tuple[str, ...] = ()


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as Parquet: same items, same bytes (one pyarrow version).

    One column a field, and one for each further value that was measured.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"nll": pa.float64(), "tokens": pa.int64(), "correct": pa.bool_()}
    columns = [(name, kinds.get(name, pa.string())) for name in _FIELDS]
    further = dict.fromkeys(name for item in items for name in item.measured)
    schema = pa.schema([*columns, *((name, pa.float64()) for name in further)])
    table = pa.Table.from_pylist([_row(item) for item in items], schema=schema)
    pq.write_table(table, path, compression="zstd", version="2.6", store_schema=False)


def _row(item: Item) -> dict[str, object]:
    row = asdict(item)
    return {**row.pop("measured"), **row}


def read_items(path: Path) -> list[Item]:
    """Read what `write_items` wrote.

    Raises:
        DataError: if the file cannot be read as one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [_item(row) for row in pq.read_table(path).to_pylist()]
    except (pa.ArrowException, OSError, TypeError, ValueError) as error:
        raise DataError(f"{path} cannot be read as evaluation items: {error}") from error


def _item(row: Mapping[str, Any]) -> Item:
    known = {name: row[name] for name in _FIELDS if name in row}
    further = {n: float(v) for n, v in row.items() if n not in _FIELDS and v is not None}
    return Item(**known, measured=further)
