"""Texts of unknown origin on one line or a terminal: they cannot control it or hide anything.

Names of files may hold anything but NUL and a slash. Characters that a terminal would obey or hide
(escape sequences, C1 controls, characters that change the direction of writing) are written as JSON
escapes them, so that JSON stays JSON.
"""

import re
import unicodedata
from typing import Final

LONGEST: Final = 200
"""Characters that are kept of a text inside a sentence or a table."""

_SUSPECT: Final = re.compile(r"[^\x20-\x7e\n\t]")


def shown(text: str) -> str:
    """Return a text with every invisible character written as an escape; line breaks stay."""
    return _SUSPECT.sub(lambda found: _showable(found[0]), text)


def one_line(text: str) -> str:
    """Return ``shown`` of a text inside a line: its line breaks are written as escapes too."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


def printable(text: object) -> str:
    r"""Return ``shown`` of a text as one line: line breaks become spaces, a tab becomes ``\t``."""
    return one_line(" ".join(part for part in map(str.strip, str(text).splitlines()) if part))


def plain(text: object, *, longest: int = LONGEST) -> str:
    """Return one line without control, format and surrogate characters, cut to a length."""
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in str(text))
    line = " ".join("".join(kept).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"


def _showable(sign: str) -> str:
    if sign.isprintable() or unicodedata.category(sign) == "Zs":
        return sign
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
