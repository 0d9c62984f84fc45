import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from paraknow_core.checkpoint.safetensors_header import read_header
from paraknow_core.errors import CheckpointError

ONE = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def write(path: Path, header: object, data: bytes = b"\0" * 16) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def refuse(path: Path, *parts: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_header(path)
    for part in (path.name, *parts):
        assert part in str(caught.value)


def test_reads_what_the_library_wrote(tmp_path):
    tensors = {
        "a.weight": torch.arange(6, dtype=torch.float32).view(2, 3),
        "b": torch.ones(5, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(7, dtype=torch.int64),
    }
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    headers = read_header(path)
    assert {n: (h.dtype, h.shape) for n, h in headers.items()} == {
        "a.weight": ("F32", (2, 3)),
        "b": ("BF16", (5,)),
        "empty": ("F32", (0, 4)),
        "scalar": ("I64", ()),
    }
    raw = path.read_bytes()
    first, last = headers["a.weight"].offsets
    assert raw[first:last] == tensors["a.weight"].numpy().tobytes()


@pytest.mark.parametrize(
    ("header", "parts"),
    [
        ({"../../etc/passwd": ONE}, ["../../etc/passwd", "refused"]),
        ({"a..b": ONE}, ["a..b"]),
        ({"": ONE}, ["''"]),
        ({"a" * 256: ONE}, ["255"]),
        ({"a": {**ONE, "dtype": "Q4"}}, ["'a'", "Q4", "BF16"]),
        ({"a": {**ONE, "dtype": ["F32"]}}, ["element type"]),
        ({"a": {**ONE, "shape": [-2, -2]}}, ["shape", "[-2, -2]"]),
        ({"a": {**ONE, "shape": [2.0, 2]}}, ["shape"]),
        ({"a": {**ONE, "shape": [True, 4]}}, ["shape"]),
        ({"a": {**ONE, "shape": [1] * 9}}, ["8 dimensions"]),
        ({"a": {**ONE, "shape": [2**41, 0]}}, ["shape"]),
        ({"a": {**ONE, "shape": [3, 2]}}, ["16 bytes", "24"]),
        ({"a": {**ONE, "data_offsets": [16, 0]}}, ["byte range"]),
        ({"a": {**ONE, "data_offsets": [0]}}, ["byte range"]),
        ({"a": {"dtype": "F32", "shape": [4]}}, ["data_offsets"]),
        ({"a": {**ONE, "more": 1}}, ["exactly"]),
        ({"a": ONE, "b": ONE}, ["'b'", "overlap"]),
        ({"a": {**ONE, "shape": [1], "data_offsets": [12, 16]}}, ["'a'", "starts at byte"]),
        ({"a": {**ONE, "shape": [3], "data_offsets": [0, 12]}}, ["padded"]),
        ([ONE], ["list"]),
        (b'{"a": {', ["not valid JSON"]),
        (b"\xff\xfe", ["not valid JSON"]),
        (b"[" * 100_000, ["not valid JSON"]),
        (b'{"a": %b, "a": %b}' % ((json.dumps(ONE).encode(),) * 2), ["'a'", "twice"]),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', ["'dtype'", "twice"]),
        (
            {f"t{i}": {**ONE, "shape": [0], "data_offsets": [0, 0]} for i in range(65_537)},
            ["65537"],
        ),
    ],
)
def test_refuses_hostile_headers(tmp_path, header, parts):
    refuse(write(tmp_path / "bad.safetensors", header), *parts)


def test_a_header_length_beyond_the_file_or_the_limit_is_refused(tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    refuse(path, "truncated")
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 17 * 2**20))
        file.truncate(18 * 2**20)
    refuse(path, "header of 17825792 bytes")


@pytest.mark.parametrize("size", [0, 7, 8])
def test_a_stub_of_a_file_is_refused(tmp_path, size):
    path = tmp_path / "stub.safetensors"
    path.write_bytes(b"\1" * size)
    refuse(path, "truncated")


def test_a_missing_file_is_named(tmp_path):
    refuse(tmp_path / "none.safetensors", "cannot be read")


@settings(max_examples=200)
@given(data=st.data())
def test_any_cut_of_a_file_is_refused_and_no_flip_escapes_as_another_error(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "x.safetensors"
    save_file({"a": torch.ones(3, 4), "b": torch.ones(2)}, path)
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    refuse(path)
    place = data.draw(st.integers(0, len(raw) - 57))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    try:
        headers = read_header(path)
    except CheckpointError:
        return
    assert max(h.offsets[1] for h in headers.values()) == len(raw)
