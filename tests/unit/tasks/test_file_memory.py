import os

import pytest

from paraknow_core.data import read_split
from paraknow_core.data.examples import Example
from paraknow_core.data.files import write_examples
from tasks.engine import estimates
from tasks.engine.estimates import Foreseen, answers_at_once, longest_row, tokens_of
from tasks.engine.file_memory import once_a_file


def test_a_file_is_read_once_until_it_is_another_one(tmp_path):
    asked = []

    @once_a_file
    def size(path):
        asked.append(path)
        return len(path.read_bytes())

    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"1")
    other.write_bytes(b"22")
    assert [size(one), size(other), size(one), size(other)] == [1, 2, 1, 2]
    assert asked == [one, other]
    before = one.stat()
    (tmp_path / "new").write_bytes(b"3")  # as long, and as old
    os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (tmp_path / "new").replace(one)
    assert size(one) == 1
    assert asked == [one, other, one]


def test_what_failed_is_tried_again(tmp_path):
    read = once_a_file(lambda path: path.read_text(encoding="utf-8"))
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "later")
    (tmp_path / "later").write_text("here", encoding="utf-8")
    assert read(tmp_path / "later") == "here"


def test_a_plan_reads_a_split_once_for_all_its_steps(tmp_path, monkeypatch):
    rows = [Example("1", "a" * 40, "b" * 4), Example("2", "a" * 8, "b" * 4)]
    write_examples(tmp_path / "train.parquet", rows)
    asked = []

    def reading(path):
        asked.append(path)
        return read_split(path)

    monkeypatch.setattr(estimates, "read_split", reading)
    known = Foreseen({"data": tmp_path})
    for _step in range(5):
        assert (tokens_of(known, "train"), longest_row(known, "train")) == (14, 11)
        assert longest_row(known, "train", cutoff=5) == 5
        assert (
            answers_at_once(known, "train", rows=3, cutoff=99) == 3
        )  # each has one, says 4 letters
    assert len(asked) == 1
    assert (tokens_of(Foreseen(), "train"), longest_row(Foreseen(), "train")) == (None, 0)
    assert longest_row(Foreseen(row_tokens=7), "train") == 7
    assert answers_at_once(Foreseen(row_tokens=8), "train", rows=3, cutoff=6) == 9


def test_a_batchs_answers_are_neither_all_average_nor_all_the_longest(tmp_path):
    rows = [Example(str(i), "a" * 400, "b" * (400 if i == 0 else 40)) for i in range(100)]
    write_examples(tmp_path / "train.parquet", rows)
    found = answers_at_once(Foreseen({"data": tmp_path}), "train", rows=64, cutoff=2048)
    assert 64 * 10.9 < found < 64 * 20
    few = answers_at_once(Foreseen({"data": tmp_path}), "train", rows=1, cutoff=2048)
    assert 10 < few < 100
