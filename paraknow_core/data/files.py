"""Reading JSONL and Parquet, and the one Parquet form in which a split is kept."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paraknow_core.data.examples import Columns, Example
from paraknow_core.data.rows import to_example
from paraknow_core.data.templates import get_template
from paraknow_core.errors import DataError

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is refused: it is no training example, and reading it could fill the memory."""

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")

_DEFAULT_COLUMNS = Columns()


def read_examples(
    path: Path, *, template: str, columns: Columns = _DEFAULT_COLUMNS
) -> list[Example]:
    """Read a JSONL (also gzipped) or Parquet file, or every such file of a folder by name.

    Rows without an id get one of their place: ``line-7``, in a folder ``<file>:line-7``.

    Args:
        path: file or folder.
        template: name in `paraknow_core.data.templates.TEMPLATES`.
        columns: names of the fields.

    Raises:
        DataError: with file and line number, for anything that is not a row of a known form.
    """
    make = get_template(template)
    examples: list[Example] = []
    for file, prefix in _files(path):
        before = len(examples)
        for where, place, row in _rows(file):
            examples.append(
                to_example(
                    row, where=where, default_id=prefix + place, template=make, columns=columns
                )
            )
        if len(examples) == before:
            raise DataError(f"{file} holds no rows; a data file needs at least one")
    return examples


def _files(path: Path) -> list[tuple[Path, str]]:
    if path.is_dir():
        files = sorted(entry for entry in path.iterdir() if entry.name.endswith(ENDINGS))
        if not files:
            raise DataError(f"folder {path} holds no data file ({', '.join(ENDINGS)})")
        return [(file, f"{file.name}:") for file in files]
    if not path.exists():
        raise DataError(f"data file {path} does not exist")
    if not path.name.endswith(ENDINGS):
        raise DataError(f"{path} is no known kind of data file; known are {', '.join(ENDINGS)}")
    return [(path, "")]


def _rows(file: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (where, for errors; place, for the id; row)."""
    if file.name.endswith(".parquet"):
        for number, row in enumerate(_parquet_rows(file), start=1):
            yield f"{file} row {number}", f"row-{number}", row
        return
    for number, line in enumerate(_lines(file), start=1):
        where = f"{file}:{number}"
        yield where, f"line-{number}", _parse(line, where)


def _lines(file: Path) -> Iterator[bytes]:
    opener = gzip.open if file.name.endswith(".gz") else Path.open
    number = 0
    try:
        with opener(file, "rb") as stream:
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{file}:{number}: line is longer than {MAX_LINE_BYTES >> 20} MiB; "
                        "JSONL has one object a line"
                    )
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file} is no complete gzip file (line {number + 1}): {error}") from error


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    if not line.strip():
        raise DataError(f"{where}: empty line; every line must hold one JSON object")
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text: {error.reason}") from None
    except RecursionError:
        raise DataError(f"{where}: JSON is nested too deeply to be a data row") from None
    except ValueError as error:  # JSONDecodeError, and integers of thousands of digits
        raise DataError(f"{where}: malformed JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _parquet_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches():
                # Absent fields of a nullable column read as None; a row then simply lacks them.
                for row in batch.to_pylist():
                    yield {name: value for name, value in row.items() if value is not None}
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file} cannot be read as Parquet: {error}") from error


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write a split as Parquet: the same rows give the same bytes under one pyarrow version.

    Columns: id, prompt, answer (string), input_ids, labels (list of int32, null for text rows).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tokens = pa.list_(pa.int32())
    columns = {
        "id": pa.array([example.id for example in examples], pa.string()),
        "prompt": pa.array([example.prompt for example in examples], pa.string()),
        "answer": pa.array([example.answer for example in examples], pa.string()),
        "input_ids": pa.array([example.input_ids for example in examples], tokens),
        "labels": pa.array([example.labels for example in examples], tokens),
    }
    pq.write_table(pa.table(columns), path, compression="zstd", version="2.6", store_schema=False)


def read_split(path: Path) -> list[Example]:
    """Read what `write_examples` wrote.

    Raises:
        DataError: if the file is no such split.
    """
    names = ("id", "prompt", "answer", "input_ids", "labels")
    examples = []
    for number, row in enumerate(_parquet_rows(path), start=1):
        if not {"id", "prompt", "answer"} <= row.keys() <= set(names):
            raise DataError(
                f"{path} row {number}: expected the columns {', '.join(names)}, "
                f"got {', '.join(row)}"
            )
        input_ids, labels = row.get("input_ids"), row.get("labels")
        examples.append(
            Example(
                id=row["id"],
                prompt=row["prompt"],
                answer=row["answer"],
                input_ids=None if input_ids is None else tuple(input_ids),
                labels=None if labels is None else tuple(labels),
            )
        )
    return examples
