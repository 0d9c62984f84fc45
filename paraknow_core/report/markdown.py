"""Texts of unknown origin in Markdown: nothing in them becomes markup, HTML or a new line."""

import json
import re
from collections.abc import Iterable, Sequence

from paraknow_core.printable import LONGEST, plain

_MARKUP = re.compile(r"[\\`*_\[\]#!|~&<>$@]|(?<=www)\.|:(?=/)")
_LIST = re.compile(r"^(\d*)([-+=.)])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def inline(text: object, *, longest: int = LONGEST) -> str:
    """Return a text that Markdown shows letter by letter inside a line: no link, emphasis, HTML.

    Args:
        text: of any origin.
        longest: characters that are kept.
    """
    return _MARKUP.sub(
        lambda found: _HTML.get(found[0], "\\" + found[0]), plain(text, longest=longest)
    )


def escaped(text: object, *, longest: int = LONGEST) -> str:
    """Return ``inline`` of a text that begins a line: it begins no list either."""
    return _LIST.sub(r"\1\\\2", inline(text, longest=longest))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a Markdown table; every cell is escaped."""
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(inline(cell, longest=1000) for cell in row)} |" for row in rows]
    return lines


def python_text(text: str) -> str:
    """Return a text as a Python literal for a code block, in ASCII and on one line."""
    return ascii(plain(text, longest=4096)).replace("`", "\\x60")


def front_matter(fields: dict[str, str | list[str]]) -> list[str]:
    """Return a YAML head; JSON's strings and lists are YAML, and nothing can end them early."""
    lines = [f"{name}: {_yaml(value)}" for name, value in fields.items()]
    return ["---", *lines, "---"]


def _yaml(value: str | list[str]) -> str:
    clean = plain(value) if isinstance(value, str) else [plain(item) for item in value]
    return json.dumps(clean, ensure_ascii=False)
