"""Texts of unknown origin on a terminal: names of files may hold anything but NUL and a slash."""

import unicodedata

_LONGEST = 200


def printable(text: object) -> str:
    r"""Return one line in which nothing moves the cursor, changes colours or turns text around.

    Line breaks become spaces. Other control and format characters, and bytes of a file's name that
    are not UTF-8, become Python's escapes, such as ``\x1b``.
    """
    line = " ".join(part for part in map(str.strip, str(text).splitlines()) if part)
    return "".join(_escaped(c) if unicodedata.category(c)[0] == "C" else c for c in line)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def plain(text: object, *, longest: int = _LONGEST) -> str:
    """Return one line without control, format and surrogate characters, cut to a length."""
    kept = (" " if unicodedata.category(c)[0] in "CZ" else c for c in str(text))
    line = " ".join("".join(kept).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
