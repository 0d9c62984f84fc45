"""JSON and YAML of unknown origin: the value that the libraries read, or one line that says why."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from artifacts.canonical import parse_any
from artifacts.errors import CanonicalError
from paraknow_core.errors import DataError
from paraknow_core.printable import printable
from paraknow_core.strict_data import MAX_DEPTH, NotStrictError, parse_json, read_json
from paraknow_core.strict_yaml import MAX_YAML_BYTES, parse_yaml, read_yaml

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
PIECES = (
    *("[", "]", "{", "}", ": ", ", ", "- ", "? ", "&x ", "*x", "<<: ", "'", '"', "|\n", "# ", "\n"),
    *(
        "!!int ",
        "!!float ",
        "!!bool ",
        "!!timestamp ",
        "!!set ",
        "!<x> ",
        "! ",
        "%YAML 1.1\n",
        "---",
    ),
    *(
        "a",
        "b: ",
        "  ",
        "\t",
        "2024-99-99",
        "0x_",
        "1:2:3",
        "~",
        ".nan",
        "é",
        "\0",
        "\x85",
        "9" * 99,
    ),
    *("\\ud800", "\\UFFFFFFFF", "\ud800"),
)
TEXTS_LIKE_YAML = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def tried(parse: Callable[[Any], Any], given: Any) -> tuple[Any, str]:
    """Return the value, or the one line that says why there is none."""
    try:
        return parse(given), ""
    except NotStrictError as error:
        refusal = str(error)
    assert refusal == printable(refusal)
    assert refusal.startswith("line ")
    return None, refusal


@settings(max_examples=60)
@given(VALUES)
def test_what_the_library_writes_is_read_back(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_yaml(yaml.safe_dump(value, allow_unicode=True)) == value


@settings(max_examples=50)
@given(VALUES, VALUES, TEXTS, st.integers(0, 5))
def test_a_key_twice_is_named_with_its_line_at_any_depth(
    one: Any, two: Any, key: str, depth: int
) -> None:
    name = json.dumps(key)
    inner = f"{{{name}: {json.dumps(one)},\n\n{name}: {json.dumps(two)}}}"
    text = '{"outer": [' * depth + inner + "]}" * depth
    with pytest.raises(NotStrictError, match=r"(?s)^line 3: the key .* appears twice$"):
        parse_json(text.encode())
    with pytest.raises(CanonicalError, match="repeats a key"):
        parse_any(text.encode())


@given(st.binary(max_size=30) | TEXTS_LIKE_YAML.map(lambda s: s.encode("utf-8", "replace")))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
@example(b"9" * 5000)
@example(b"[NaN]")
@example(b'["\\ud800"]')
def test_any_json_is_a_value_or_one_line(data: bytes) -> None:
    value, refusal = tried(parse_json, data)
    if not refusal:
        assert json.loads(json.dumps(value, allow_nan=False).encode()) == value


@given(TEXTS_LIKE_YAML | st.text(max_size=20))
@example(BOMB)
@example("[" * 100_000)
@example("- " * 100_000)
@example("? " * 100_000)
@example("a: " + "9" * 5000)
@example("a: 2024-99-99")
@example("a: &a [*a]")
@example("a: !!python/object:os.system x")
def test_any_yaml_is_a_value_or_one_line(text: str) -> None:
    value, refusal = tried(parse_yaml, text)
    assert refusal or plain(value), value


def plain(value: Any) -> bool:
    """Whether a value is of the types that JSON has, and its texts can be written anywhere."""
    if isinstance(value, dict):
        return all(map(plain, [*value, *value.values()]))
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, str):
        return "\0" not in value and bool(value.encode() or True)
    return value is None or type(value) in (bool, int, float)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: the key 'a' appears twice"),
        ("a:\n  b: 1\n  'b': 2", "line 3: the key 'b' appears twice"),
        ("1: x\n0x1: y", "line 2: the key '0x1' appears twice"),
        ("x: 1\na: !!int abc", "line 2: 'abc' is no value of the type int"),
        ("x: 1\ny: [1,\n", "line 3: "),
        (BOMB, "values, each alias written out"),
    ],
)
def test_yaml_that_is_refused_names_line_and_fault(text: str, words: str) -> None:
    with pytest.raises(NotStrictError) as caught:
        parse_yaml(text)
    assert words in str(caught.value)


def test_aliases_and_merges_within_bounds_mean_what_they_mean() -> None:
    text = "base: &b {x: 1, y: 2}\nmine: &m {<<: *b, y: 3}\nours: {<<: *m, z: [*b, *b]}"
    assert parse_yaml(text) == yaml.safe_load(text)
    assert parse_yaml("day: 2024-02-30") == {"day": "2024-02-30"}


READERS = [lambda path: read_json(path, refuse=DataError), lambda p: read_yaml(p, refuse=DataError)]


@pytest.mark.parametrize("read", READERS, ids=["json", "yaml"])
def test_only_regular_files_are_read(read: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", ".", "none", "n" * 300, "\0", "\ud800"):
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path / name)


def test_the_size_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"#" * (MAX_YAML_BYTES + 1))
    with pytest.raises(DataError, match="larger than 262144 bytes"):
        read_yaml(tmp_path / "a", refuse=DataError)
    with pytest.raises(DataError, match="larger than 1024 bytes"):
        read_json(tmp_path / "a", refuse=DataError, max_bytes=1024)
    (tmp_path / "b").write_bytes(b'"\n\xff"')
    for read in READERS:
        with pytest.raises(DataError, match="line 2: not UTF-8"):
            read(tmp_path / "b")


@given(st.text() | st.binary().map(os.fsdecode))
def test_printable_text_is_one_line_without_control_characters(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() or not shown.replace(" ", "").strip()
    assert "\n" not in shown
    assert printable(shown) == shown
