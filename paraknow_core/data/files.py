"""Reading JSONL and Parquet, and the one Parquet form in which a split is kept."""

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from paraknow_core.data.drafts import Draft, to_example
from paraknow_core.data.examples import Columns, Example
from paraknow_core.data.rows import RowForm, to_draft
from paraknow_core.data.templates import get_template
from paraknow_core.errors import DataError
from paraknow_core.printable import plain
from paraknow_core.strict_data import NotStrictError, open_regular, parse_json

MAX_LINE_BYTES = 64 * 2**20
"""A longer line is refused: it is no training example, and reading it could fill the memory."""

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet")

_DEFAULT_COLUMNS = Columns()


def read_examples(
    path: Path, *, template: str, columns: Columns = _DEFAULT_COLUMNS
) -> list[Example]:
    """Read a JSONL (also gzipped) or Parquet file, or every such file of a folder by name.

    Rows without an id get one from their place: ``line-7``, in a folder ``<file>:line-7``.

    Args:
        path: file or folder.
        template: name in `paraknow_core.data.templates.TEMPLATES`.
        columns: names of the fields.

    Raises:
        DataError: with file and line number, for anything that is not a row of a known form.
    """
    make, form = get_template(template), RowForm(columns)
    drafts = read_drafts(path, form)
    return [to_example(draft, template=make, wording=form.wording) for draft in drafts]


def read_drafts(path: Path, form: RowForm) -> list[Draft]:
    """As `read_examples`, of rows that are not put into words yet."""
    drafts: list[Draft] = []
    for file, prefix in _files(path):
        before = len(drafts)
        for where, place, row in _rows(file):
            drafts.append(to_draft(row, where=where, default_id=prefix + place, form=form))
        if len(drafts) == before:
            raise DataError(f"{file} holds no rows; a data file needs at least one")
    return drafts


def _files(path: Path) -> list[tuple[Path, str]]:
    if path.is_dir():
        files = sorted(
            entry
            for entry in path.iterdir()
            if entry.name.endswith(ENDINGS) and not entry.name.startswith(".")  # macOS's ._rows
        )
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
    number = 0
    try:
        with open_regular(file, refuse=DataError) as raw:
            stream = gzip.GzipFile(fileobj=raw) if file.name.endswith(".gz") else raw
            while line := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise DataError(
                        f"{file}:{number}: line is longer than {MAX_LINE_BYTES >> 20} MiB; "
                        "JSONL has one object a line"
                    )
                # A byte order mark, which some editors write, is not part of the JSON.
                yield line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{file} is no complete gzip file (line {number + 1}): {error}") from error
    except OSError as error:
        raise DataError(f"{file}:{number + 1}: cannot be read ({error.strerror})") from error


def _parse(line: bytes, where: str) -> Mapping[str, Any]:
    if not line.strip():
        raise DataError(f"{where}: empty line; every line must hold one JSON object")
    try:
        row = parse_json(line, as_row=True)
    except NotStrictError as error:
        raise DataError(f"{where}: malformed JSON: {str(error).removeprefix('line 1: ')}") from None
    if not isinstance(row, dict):
        raise DataError(f"{where}: expected a JSON object, got {type(row).__name__}")
    return row


def _parquet_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_regular(file, refuse=DataError) as raw:
        try:
            parquet = pq.ParquetFile(raw)
            names = parquet.schema_arrow.names
            batches = parquet.iter_batches()
            while (batch := next(batches, None)) is not None:
                # Absent fields of a nullable column read as None; a row then simply lacks them.
                for values in zip(*_columns(batch, file), strict=True):
                    yield {n: v for n, v in zip(names, values, strict=True) if v is not None}
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{file} cannot be read as Parquet: {_line_of(error)}") from error


def _columns(batch: Any, file: Path) -> list[list[Any]]:
    """The values of a batch's columns as Python's own, or an error that names the column."""
    found = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if batch.schema.names.count(name) > 1:
            raise DataError(f"{file} holds the column {name[:80]!r} twice; rename one of them")
        try:
            found.append(column.to_pylist())
        # Texts that are no UTF-8, unknown time zones, dates and durations beyond Python's: as many
        # kinds of error as there are kinds of column.
        except Exception as error:
            raise DataError(
                f"{file}: the column {name[:80]!r} of type {str(column.type)[:80]} holds values "
                f"that Python cannot hold ({_line_of(error)}); write the file without this column, "
                "or with another type for it"
            ) from error
    return found


def _line_of(error: Exception) -> str:
    return plain(f"{type(error).__name__}: {error}")


def write_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write a split as Parquet: the same rows give the same bytes under one pyarrow version.

    Columns: id, prompt, answer (string), input_ids, labels (list of int32, null for text rows);
    references (list of string) and own (string) where any row has them.
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
    if any(example.references for example in examples):
        texts = pa.list_(pa.string())
        columns["references"] = pa.array([example.references for example in examples], texts)
    if any(example.own for example in examples):
        columns["own"] = pa.array([example.own for example in examples], pa.string())
    pq.write_table(pa.table(columns), path, compression="zstd", version="2.6", store_schema=False)


def read_split(path: Path) -> list[Example]:
    """Read what `write_examples` wrote.

    Raises:
        DataError: if the file does not have these columns.
    """
    names = ("id", "prompt", "answer", "input_ids", "labels", "references", "own")
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
                references=tuple(row.get("references") or ()),
                own=row.get("own") or "",
            )
        )
    return examples
