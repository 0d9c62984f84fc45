"""Reading rows of every form, and what is said about rows that cannot be read."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paraknow_core.data import (
    Columns,
    Example,
    get_template,
    read_examples,
    read_hub,
    read_split,
    write_examples,
)
from paraknow_core.data import files as data_files
from paraknow_core.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"question": "one and two?", "answer": "3"},
    {"id": "b", "question": "Größe?", "answer": "groß\n#### 1,000"},
]
QUESTION = Columns(prompt="question")


def lines(path: Path, *rows: Any) -> Path:
    texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def refused(path: Path, **kwargs: Any) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, template="none", **kwargs)
    return str(caught.value)


def test_texts_are_taken_as_they_are_by_template_none(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *ROWS)
    assert read_examples(path, template="none", columns=QUESTION) == [
        Example("line-1", "one and two?", "3"),
        Example("b", "Größe?", "groß\n#### 1,000"),
    ]


def test_texts_and_messages_of_one_conversation_are_the_same_tulu_example(tmp_path: Path) -> None:
    messages = [
        {"role": "user", "content": " one and two?\n"},
        {"role": "assistant", "content": "3"},
    ]
    chat = lines(tmp_path / "chat.jsonl", {"messages": messages})
    texts = lines(tmp_path / "texts.jsonl", ROWS[0])
    expected = [Example("line-1", "<|user|>\none and two?\n\n<|assistant|>\n", "3")]
    assert read_examples(chat, template="tulu") == expected
    assert read_examples(texts, template="tulu", columns=QUESTION) == expected


def test_tulu_keeps_earlier_turns_in_the_prompt(tmp_path: Path) -> None:
    turns = [("system", "s"), ("user", "u1"), ("assistant", "a1"), ("user", "u2")]
    messages = [{"role": role, "content": text} for role, text in [*turns, ("assistant", "a2")]]
    (example,) = read_examples(lines(tmp_path / "a.jsonl", {"messages": messages}), template="tulu")
    assert example.prompt == (
        "<|system|>\ns\n\n<|user|>\nu1\n\n<|assistant|>\na1\n\n<|user|>\nu2\n\n<|assistant|>\n"
    )
    assert example.answer == "a2"


def test_tokenised_rows(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"id": 7, "input_ids": [5, 6, 7], "labels": [-100, 6, 7]})
    (example,) = read_examples(path, template="none")
    assert example == Example("7", input_ids=(5, 6, 7), labels=(-100, 6, 7))


def test_jsonl_gzip_parquet_and_bom_give_the_same_rows(tmp_path: Path) -> None:
    plain = lines(tmp_path / "a.jsonl", *ROWS)
    expected = read_examples(plain, template="tulu", columns=QUESTION)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    (tmp_path / "c.jsonl").write_bytes(
        b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n").removesuffix(b"\r\n")
    )
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    for name in ("b.jsonl.gz", "c.jsonl"):
        assert read_examples(tmp_path / name, template="tulu", columns=QUESTION) == expected
    parquet = read_examples(tmp_path / "d.parquet", template="tulu", columns=QUESTION)
    assert [(row.prompt, row.answer) for row in parquet] == [
        (row.prompt, row.answer) for row in expected
    ]


def test_parquet_rows_of_messages(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]
    pq.write_table(pa.Table.from_pylist([{"messages": messages}]), tmp_path / "a.parquet")
    (example,) = read_examples(tmp_path / "a.parquet", template="tulu")
    assert (example.id, example.answer) == ("row-1", "a")


def test_a_folder_is_read_by_file_name(tmp_path: Path) -> None:
    lines(tmp_path / "b.jsonl", {"prompt": "second", "answer": "2"})
    lines(tmp_path / "a.jsonl", {"prompt": "first", "answer": "1"})
    (tmp_path / "notes.txt").write_text("no data")
    examples = read_examples(tmp_path, template="none")
    assert [(example.id, example.prompt) for example in examples] == [
        ("a.jsonl:line-1", "first"),
        ("b.jsonl:line-1", "second"),
    ]


GOOD = {"prompt": "p", "answer": "a"}


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("", "empty line"),
        ("   ", "empty line"),
        ('{"prompt": "p", ', "malformed JSON"),
        ("[1, 2]", "expected a JSON object, got list"),
        ("[" * 100_000, "nested too deeply"),
        ('{"n": ' + "9" * 5000 + "}", "malformed JSON"),
        ({"promt": "p", "answer": "a"}, "did you mean 'promt'"),
        ({"prompt": "p"}, "'answer' is missing"),
        ({"text": "p"}, "'messages', or 'input_ids' and 'labels'"),
        ({}, "no fields"),
        ({"prompt": "p", "answer": 5}, "must be text, got int 5"),
        ({"prompt": "p", "answer": None}, "must be text, got NoneType"),
        ({"prompt": "p", "answer": " \n"}, "'answer' is empty"),
        ({"prompt": "", "answer": "a"}, "'prompt' is empty"),
        ({"prompt": "\ud800", "answer": "a"}, "not valid Unicode"),
        ({"prompt": "p", "answer": "a", "id": [1]}, "'id' must be text or an integer"),
        ({"messages": "hello"}, "list of at least two turns"),
        ({"messages": ["a", "b"]}, "messages[0] must be an object"),
        ({"messages": [{"role": "bot", "content": "x"}] * 2}, "got 'bot'"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "the last turn must be"),
        ({"messages": [{"role": "user"}] * 2}, "messages[0]: field 'content' is missing"),
        ({"input_ids": [1, 2]}, "'labels' is missing"),
        ({"input_ids": [1, 2], "labels": [1]}, "2 tokens but 'labels' has 1"),
        ({"input_ids": [1, True], "labels": [1, 2]}, "list of integers"),
        ({"input_ids": [1, -2], "labels": [1, 2]}, "holds -2, outside 0.."),
        ({"input_ids": [1, 2, 3], "labels": [2, 3, -100]}, "must not be shifted"),
        ({"input_ids": [1, 2], "labels": [-100, -100]}, "empty answer"),
        ({"input_ids": [1, 2], "labels": [1, -100]}, "empty answer"),
    ],
)
def test_a_bad_line_is_named_with_file_and_line(tmp_path: Path, bad: Any, words: str) -> None:
    message = refused(lines(tmp_path / "rows.jsonl", GOOD, GOOD, bad, GOOD))
    assert f"{tmp_path}/rows.jsonl:3: " in message
    assert words in message
    assert len(message) < 1000


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", GOOD)
    path.write_bytes(path.read_bytes() + b'{"prompt": "\xff", "answer": "a"}\n')
    assert "rows.jsonl:2: not UTF-8" in refused(path)


def test_a_line_without_end_is_not_read_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "MAX_LINE_BYTES", 1 << 20)
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b" " * (5 << 20)))
    assert "rows.jsonl.gz:1: line is longer than 1 MiB" in refused(path)


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(json.dumps(GOOD).encode() + b"\n" for _ in range(10)))
    (tmp_path / "a.jsonl.gz").write_bytes(whole[:-12])
    assert "a.jsonl.gz is no complete gzip file" in refused(tmp_path / "a.jsonl.gz")
    (tmp_path / "b.jsonl.gz").write_bytes(b"plain")
    assert "b.jsonl.gz is no complete gzip file" in refused(tmp_path / "b.jsonl.gz")


def test_parquet_errors_name_file_and_row(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    assert "a.parquet cannot be read as Parquet" in refused(tmp_path / "a.parquet")
    rows = [GOOD, {"prompt": "p", "answer": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    assert "b.parquet row 2: field 'answer' is missing" in refused(tmp_path / "b.parquet")


def test_missing_empty_and_unknown_files(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    assert "empty.jsonl holds no rows" in refused(tmp_path / "empty.jsonl")
    (tmp_path / "rows.csv").write_text("a,b")
    assert ".jsonl, .jsonl.gz, .parquet" in refused(tmp_path / "rows.csv")
    (tmp_path / "folder").mkdir()
    assert "holds no data file" in refused(tmp_path / "folder")


def test_unknown_template_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown template 'tullu'.*did you mean 'tulu'"):
        get_template("tullu")
    with pytest.raises(DataError, match=r"known are tulu, none$"):
        read_examples(lines(tmp_path / "a.jsonl", GOOD), template="xyzzy")


def test_template_none_refuses_a_longer_conversation(tmp_path: Path) -> None:
    turns = [{"role": role, "content": "x"} for role in ("system", "user", "assistant")]
    message = refused(lines(tmp_path / "a.jsonl", {"messages": turns}))
    assert "a.jsonl:1: template 'none'" in message
    assert "'tulu'" in message


EXAMPLES = [
    Example("a", "p é", "q\n"),
    Example("b", input_ids=(1, 2, 3), labels=(-100, 2, 3)),
]


def test_a_split_comes_back_and_its_bytes_are_the_same(tmp_path: Path) -> None:
    write_examples(tmp_path / "one.parquet", EXAMPLES)
    write_examples(tmp_path / "two.parquet", EXAMPLES)
    assert read_split(tmp_path / "one.parquet") == EXAMPLES
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_bytes_of_a_split_do_not_depend_on_the_process(tmp_path: Path) -> None:
    write_examples(tmp_path / "here.parquet", EXAMPLES)
    code = (
        "import sys; from pathlib import Path\n"
        "from paraknow_core.data import read_split, write_examples\n"
        "write_examples(Path(sys.argv[2]), read_split(Path(sys.argv[1])))\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    there = tmp_path / "there.parquet"
    command = [sys.executable, "-c", code, str(tmp_path / "here.parquet"), str(there)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert there.read_bytes() == (tmp_path / "here.parquet").read_bytes()
    assert run.stdout.strip() == "[]"  # reading data loads none of the heavy libraries


def test_read_split_refuses_other_tables(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet row 1: expected the columns id, prompt"):
        read_split(tmp_path / "a.parquet")


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("no_hub")
def test_data_sets_of_every_local_form_are_the_same_rows(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    (tmp_path / "files").mkdir()
    lines(tmp_path / "files" / "train.jsonl", *ROWS)
    saved = Dataset.from_list([{"id": None, **row} for row in ROWS])
    saved.save_to_disk(tmp_path / "one")
    DatasetDict({"train": saved}).save_to_disk(tmp_path / "dict")
    expected = [("row-1", "one and two?"), ("b", "Größe?")]
    for name in ("files", "one", "dict"):
        examples = read_hub(
            str(tmp_path / name),
            config=None,
            split="train",
            revision=None,
            template="none",
            columns=QUESTION,
        )
        assert [(example.id, example.prompt) for example in examples] == expected, name


@pytest.mark.usefixtures("no_hub")
def test_hub_errors_name_the_data_set_and_the_row(tmp_path: Path) -> None:
    from datasets import Dataset

    with pytest.raises(DataError, match=r"data set 'nobody/nothing'.*split 'train'.*cannot be"):
        read_hub("nobody/nothing", config=None, split="train", revision=None, template="none")
    Dataset.from_list([GOOD, {"prompt": "p", "answer": " "}]).save_to_disk(tmp_path / "one")
    with pytest.raises(DataError, match=r"one \[train\] row 2: field 'answer' is empty"):
        read_hub(str(tmp_path / "one"), config=None, split="train", revision=None, template="none")
