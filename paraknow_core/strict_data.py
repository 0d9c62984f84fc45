"""JSON of unknown origin, read strictly; an error is one sentence with the number of the line.

Strict means: regular files only (a pipe would block, a device never ends), a limit on bytes, UTF-8,
no key twice, no NaN or Infinity, nesting and numbers within bounds, no text that is not Unicode.
``strict_yaml`` is the same for YAML.
"""

import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from paraknow_core.errors import ParaknowError

MAX_DEPTH = 64
MAX_JSON_BYTES = 256 * 1024**2
"""Of any JSON file: the largest, such as a tokenizer.json of 262,144 tokens, have 33 MB."""

_TEXT = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(
    rf"(?P<key>{_TEXT})\s*:|(?P<text>{_TEXT})|(?P<open>[\[{{])|(?P<close>[\]}}])"
    r"|(?P<constant>-?Infinity|NaN)|(?P<digits>\d+)",
    re.DOTALL,
)
_SURROGATE = re.compile(r"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|\\u[dD][c-fC-F]")


class NotStrictError(ValueError):
    """A text is not what it should be; the message is one line and begins with the text's line."""


def open_regular(path: Path, *, refuse: type[ParaknowError], hint: str = "") -> BinaryIO:
    """Open a regular file for reading, without waiting for whatever else may stand there.

    Args:
        path: links are followed.
        refuse: the error to raise.
        hint: what to do, a sentence added where the file cannot be opened.

    Raises:
        ParaknowError: of class ``refuse``, if it cannot be opened or is no regular file.
    """
    end = f" {hint}" if hint else ""
    try:
        # O_NONBLOCK: opening a pipe would wait for its writer; regular files do not know it.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:  # a name with NUL, or outside the system's encoding
        why = error.strerror if isinstance(error, OSError) else error
        raise refuse(f"{path}: cannot be read ({why}).{end}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refuse(f"{path}: cannot be read (a folder, pipe or device, no regular file).{end}")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, *, max_bytes: int, refuse: type[ParaknowError], hint: str = "") -> bytes:
    """Read a small regular file.

    Raises:
        ParaknowError: of class ``refuse``, also if the file is larger than ``max_bytes``.
    """
    with open_regular(path, refuse=refuse, hint=hint) as file:
        try:
            data = file.read(max_bytes + 1)
        except OSError as error:
            raise refuse(f"{path}: cannot be read ({error.strerror}).") from error
    if len(data) > max_bytes:
        raise refuse(f"{path}: larger than {max_bytes} bytes, the most that is read of it.")
    return data


def read_json(
    path: Path,
    *,
    refuse: type[ParaknowError],
    max_bytes: int = MAX_JSON_BYTES,
    hint: str = "",
) -> Any:
    """Read a JSON file, strictly.

    Args:
        path: of the file.
        refuse: the error to raise.
        max_bytes: a larger file is refused.
        hint: what to do, a sentence added where the file cannot be opened.

    Raises:
        ParaknowError: of class ``refuse``; names the file, the line and the fault.
    """
    data = read_bytes(path, max_bytes=max_bytes, refuse=refuse, hint=hint)
    try:
        return parse_json(data)
    except NotStrictError as error:
        raise refuse(f"{path}: not a valid JSON file ({error}).") from error


def read_json_object(
    path: Path, *, refuse: type[ParaknowError], max_bytes: int = MAX_JSON_BYTES, hint: str = ""
) -> dict[str, Any]:
    """Read a JSON file that holds an object, as ``read_json`` does."""
    value = read_json(path, refuse=refuse, max_bytes=max_bytes, hint=hint)
    if not isinstance(value, dict):
        raise refuse(f"{path}: holds a {type(value).__name__}, not a JSON object.")
    return value


def parse_json(data: bytes, *, as_row: bool = False) -> Any:
    """Parse JSON, strictly.

    Args:
        data: UTF-8.
        as_row: of a data set, whose unused fields may be anything: NaN, Infinity and lone
            surrogates pass.

    Raises:
        NotStrictError: with line and fault.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise NotStrictError(not_utf8(error)) from None
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=None if as_row else _no_constant
        )
    except json.JSONDecodeError as error:
        raise NotStrictError(f"line {error.lineno}: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise NotStrictError(_first_fault(text) or str(error)) from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise NotStrictError(_first_fault(text) or "nested too deeply")
    if not as_row and (lone := _SURROGATE.search(text)) and not is_unicode(value):
        raise NotStrictError(f"{line_at(text, lone.start())}: a text that is not valid Unicode")
    return value


def not_utf8(error: UnicodeDecodeError) -> str:
    """Say where a text is not UTF-8."""
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"line {line}: not UTF-8 text, {error.reason}"


def line_at(text: str, place: int) -> str:
    """Name the line of a place in a text."""
    return f"line {text.count(chr(10), 0, place) + 1}"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key appears twice")
    return made


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a JSON number")


def _is_deeper(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested deeper than a limit; level by level, no recursion."""
    level = [value]
    for _ in range(limit + 1):
        level = (
            [
                below
                for outer in level
                for below in (outer.values() if isinstance(outer, dict) else outer)
                if isinstance(below, dict | list)
            ]
            if isinstance(value, dict | list)
            else []
        )
        if not level:
            return False
    return True


def is_unicode(value: Any) -> bool:
    """Whether no text of a JSON value holds a lone surrogate, which no file or terminal takes."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_fault(text: str) -> str:
    """Find the first fault in JSON that ``json.loads`` parsed up to that fault."""
    keys: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        fault, word = "", token[token.lastgroup or 0]
        match token.lastgroup:
            case "open":
                keys.append(set())
                fault = f"nested deeper than {MAX_DEPTH} levels" if len(keys) > MAX_DEPTH else ""
            case "close" if keys:
                keys.pop()
            case "constant":
                fault = f"{word} is not a JSON number"
            case "digits" if 0 < sys.get_int_max_str_digits() < len(word):
                fault = f"a number of {len(word)} digits"
            case "key" if keys:
                key = json.loads(word)
                fault = f"the key {key[:80]!r} appears twice" if key in keys[-1] else ""
                keys[-1].add(key)
        if fault:
            return f"{line_at(text, token.start())}: {fault}"
    return ""
