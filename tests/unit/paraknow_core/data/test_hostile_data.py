"""Data files of any columns, values, bytes and names: rows, or one line that names the file."""

import gzip
import json
import os
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artifacts.disk.digests import digest_bytes
from artifacts.errors import NameRefusedError
from artifacts.folders import digest_folder
from artifacts.records import folder_digest, tree_digest
from paraknow_core.data import Example, read_examples
from paraknow_core.errors import DataError
from paraknow_core.printable import printable

ROW = {"prompt": "p", "answer": "a"}
NOT_UTF8 = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
)
INSIDE = [
    *(NOT_UTF8, pa.array(["x"]), pa.array(["x"]).dictionary_encode(), pa.nulls(1)),
    *(pa.array([7]), pa.array([0.5]), pa.array([True]), pa.array([b"\xff"])),
    pa.array([1], pa.decimal128(5)),
    pa.array([0], pa.timestamp("us", tz="Mars/Olympus")),
    pa.array([0], pa.timestamp("ns", tz="+99:99")),
    pa.array([2**62], pa.timestamp("us")),
    pa.array([2**62], pa.duration("s")),
    pa.array([1], pa.duration("ns")),
    pa.array([2**30], pa.date32()),
    pa.array([1], pa.time64("ns")),
    pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32())),
]


def nested(inner: st.SearchStrategy[pa.Array]) -> st.SearchStrategy[pa.Array]:
    ends = pa.array([0, 1], pa.int32())
    return inner.map(lambda a: pa.ListArray.from_arrays(ends, a)) | inner.map(
        lambda a: pa.StructArray.from_arrays([a, pa.array(["user"])], ["content", "role"])
    )


COLUMNS = st.recursive(st.sampled_from(INSIDE), nested, max_leaves=3)
NAMES = st.sampled_from(["prompt", "answer", "messages", "input_ids", "labels", "id", "x\x1b[31m"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def rows_or_one_line(path: Path) -> list[Example]:
    try:
        return read_examples(path, template="tulu")
    except DataError as error:
        refusal = str(error)
    assert refusal == printable(refusal)
    assert len(refusal) < 1500
    assert path.name in refusal
    return []


@settings(max_examples=100)
@given(st.lists(st.tuples(NAMES, COLUMNS), min_size=1, max_size=4))
@example([("prompt", pa.array(["p"])), ("prompt", pa.array(["q"])), ("answer", pa.array(["a"]))])
@example([(n, pa.array(["p"])) for n in ROW] + [("x", pa.array([2**62], pa.duration("s")))])
def test_any_columns_give_rows_or_one_line(
    folder: Path, columns: list[tuple[str, pa.Array]]
) -> None:
    names, arrays = zip(*columns, strict=True)
    pq.write_table(pa.Table.from_arrays(arrays, names=names), folder / "a.parquet")
    for row in rows_or_one_line(folder / "a.parquet"):
        assert len(set(names)) == len(names)
        assert json.dumps([row.id, row.prompt, row.answer, row.input_ids, row.labels]).encode()


@settings(max_examples=100)
@given(st.data())
def test_a_cut_or_changed_file_gives_rows_or_one_line(folder: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(["b.parquet", "b.jsonl.gz", "b.jsonl"]))
    pq.write_table(pa.Table.from_pylist([ROW] * 3), folder / "b.parquet")
    lines = (json.dumps(ROW) + "\n").encode() * 3
    (folder / "b.jsonl").write_bytes(lines)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines, mtime=0))
    held = bytearray((folder / kind).read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        held[data.draw(st.integers(0, len(held) - 1))] = data.draw(st.integers(0, 255))
    (folder / kind).write_bytes(held[: data.draw(st.integers(0, len(held)))])
    rows_or_one_line(folder / kind)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100)
@given(st.dictionaries(NAMES, VALUES, max_size=4) | VALUES)
def test_any_json_line_gives_a_row_or_one_line(folder: Path, row: Any) -> None:
    (folder / "c.jsonl").write_text(json.dumps(row) + "\n")
    rows_or_one_line(folder / "c.jsonl")


def test_unused_fields_of_a_row_may_be_anything(tmp_path: Path) -> None:
    text = '{"prompt": "p", "answer": "a", "score": NaN, "note": "\\ud800", "more": [[[1e999]]]}\n'
    (tmp_path / "a.jsonl").write_text(text)
    assert len(read_examples(tmp_path / "a.jsonl", template="none")) == 1


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_pipes_and_devices_are_refused(tmp_path: Path, ending: str) -> None:
    os.mkfifo(tmp_path / f"pipe{ending}")
    (tmp_path / f"zero{ending}").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(DataError, match="no regular file"):
            read_examples(tmp_path / f"{name}{ending}", template="none")


def test_hidden_files_of_a_folder_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "._a.jsonl").write_bytes(b"\0\5\26\7")  # what macOS leaves beside a copied file
    assert [row.id for row in read_examples(tmp_path, template="none")] == ["a.jsonl:line-1"]


FREE_NAMES = st.binary(min_size=1, max_size=20).filter(
    lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")
)


@settings(max_examples=50)
@given(FREE_NAMES)
@example(b"rows (1)")
@example("données".encode())
@example(b"caf\xe9\x1b[31m\n")
def test_a_file_of_any_name_is_digested_and_read(folder: Path, name: bytes) -> None:
    path = folder / "names" / os.fsdecode(name + b".jsonl")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(ROW) + "\n")
    found = digest_folder(path.parent, [path.name])
    assert found[path.name].digest == digest_bytes(path.read_bytes())
    assert len(rows_or_one_line(path)) == 1
    path.unlink()


@given(st.lists(st.sampled_from(["a", ".", "..", "", "b c"]), min_size=1, max_size=4))
def test_a_name_that_leads_out_of_the_folder_is_refused(folder: Path, parts: list[str]) -> None:
    name = "/".join(parts)
    if {"", ".", ".."} & set(parts):
        with pytest.raises(NameRefusedError, match="out of its folder"):
            digest_folder(folder, [name])


def test_plain_names_have_the_digest_that_they_always_had(tmp_path: Path) -> None:
    for name in ("config.json", "a-1_b.txt"):
        (tmp_path / name).write_text(name)
    files = digest_folder(tmp_path, ["config.json", "a-1_b.txt"])
    assert folder_digest(files) == tree_digest(files)
    (tmp_path / "größe.json").write_text("{}")
    free = digest_folder(tmp_path, ["größe.json"])
    assert folder_digest(free)
    with pytest.raises(NameRefusedError):
        tree_digest(free)  # an artifact's names stay plain
