"""How far two versions of a file are apart, against plain loops."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from paraknow_core.file_differences import compare_folders, compare_tensors

numbers = st.floats(-1e6, 1e6, width=32) | st.sampled_from([0.0, math.nan, math.inf, -math.inf])


def slow(a: list[float], b: list[float]) -> tuple[float, float]:
    relative = absolute = 0.0
    for x, y in zip(a, b, strict=True):
        if x == y or (math.isnan(x) and math.isnan(y)):
            continue
        if not (math.isfinite(x) and math.isfinite(y)):
            return math.inf, math.inf
        relative = max(relative, abs(x - y) / max(abs(x), abs(y)))
        absolute = max(absolute, abs(x - y))
    return relative, absolute


@settings(max_examples=200)
@given(st.lists(st.tuples(numbers, numbers), max_size=6))
def test_tensors_agree_with_a_plain_loop(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = compare_tensors("t", torch.tensor(a), torch.tensor(b))
    relative, absolute = slow(a, b)
    if absolute == 0.0:
        assert found is None
        return
    largest = max((abs(x) for x in a if math.isfinite(x)), default=0.0)
    assert found is not None
    assert found.relative == pytest.approx(relative, rel=1e-12)
    assert found.of_largest == pytest.approx(absolute / largest if largest else math.inf, rel=1e-12)


def test_shapes_and_dtypes_that_differ_are_said() -> None:
    found = compare_tensors("t", torch.zeros(2, 3), torch.zeros(3, 2))
    assert found is not None
    assert "[2, 3]" in found.note
    found = compare_tensors("t", torch.zeros(2), torch.zeros(2, dtype=torch.bfloat16))
    assert found is not None
    assert "bfloat16" in found.note


def compare(old: Path, new: Path, name: str):
    (found,) = compare_folders({name: old / name}, {name: new / name})
    return found


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    return tmp_path / "old", tmp_path / "new"


def test_safetensors_name_the_tensor_and_how_far(two: tuple[Path, Path]) -> None:
    a = {"x": torch.tensor([4.0, 2.0]), "y": torch.ones(2, dtype=torch.int8), "gone": torch.ones(1)}
    b = {"x": torch.tensor([4.0, 1.0]), "y": torch.ones(2, dtype=torch.int8)}
    save_file(a, two[0] / "m.safetensors")
    save_file(b, two[1] / "m.safetensors")
    found = compare(*two, "m.safetensors")
    assert not found.equal
    assert [(d.part, d.relative, d.of_largest) for d in found.differences] == [
        ("gone", math.inf, math.inf),
        ("x", 0.5, 0.25),
    ]


def test_parquet_names_the_column(two: tuple[Path, Path]) -> None:
    table = {"id": ["a", "b"], "nll": [1.0, 2.0], "ids": [[1], [2, 3]], "n": [1, 2]}
    pd.DataFrame(table).to_parquet(two[0] / "t.parquet")
    changed = table | {"nll": [1.0, 1.5], "ids": [[1], [2, 4]]}
    pd.DataFrame(changed).to_parquet(two[1] / "t.parquet")
    ids, nll = compare(*two, "t.parquet").differences
    assert (nll.part, nll.relative) == ("nll", 0.25)
    assert (ids.part, ids.relative) == ("ids", None)
    assert "1 of 2 rows" in ids.note
    pd.DataFrame(table).head(1).to_parquet(two[1] / "t.parquet")
    (rows,) = compare(*two, "t.parquet").differences
    assert "2 rows became 1" in rows.note


def test_json_names_the_field(two: tuple[Path, Path]) -> None:
    old = {"a": {"loss": [1.0, 2.0]}, "word": "x", "same": 1, "flag": True, "old": 0}
    new = {"a": {"loss": [1.0, 4.0]}, "word": "y", "same": 1, "flag": False, "new": 0}
    (two[0] / "f.json").write_text(json.dumps(old))
    (two[1] / "f.json").write_text(json.dumps(new))
    found = {d.part: d for d in compare(*two, "f.json").differences}
    assert set(found) == {"a.loss.1", "word", "flag", "old", "new"}
    assert found["a.loss.1"].relative == 0.5
    assert found["a.loss.1"].of_largest == 1.0
    assert '"x" became "y"' in found["word"].note
    assert "true became false" in found["flag"].note
    assert "missing" in found["old"].note


def test_equal_values_in_other_bytes_have_no_difference(two: tuple[Path, Path]) -> None:
    (two[0] / "f.json").write_text('{"a":1}')
    (two[1] / "f.json").write_text('{ "a": 1 }')
    found = compare(*two, "f.json")
    assert (found.equal, found.differences) == (False, ())


def test_other_files_and_missing_ones(two: tuple[Path, Path]) -> None:
    (two[0] / "a.png").write_bytes(b"12")
    (two[1] / "a.png").write_bytes(b"123")
    assert "2 and 3 bytes" in compare(*two, "a.png").differences[0].note
    assert compare_folders({"a.png": two[0] / "a.png"}, {"a.png": two[0] / "a.png"})[0].equal
    gone, extra = compare_folders({"a": two[0] / "a.png"}, {"b": two[1] / "a.png"})
    assert "missing now" in gone.differences[0].note
    assert "not there before" in extra.differences[0].note
