"""The names that the store lets in: digests, keys, roles, and the file names of an output."""

import re
from collections.abc import Iterable
from typing import Final, NewType

from artifacts.errors import NameRefusedError

Digest = NewType("Digest", str)
"""The blake3 digest of some bytes: 64 lower-case hexadecimal digits."""

StepKey = NewType("StepKey", str)
"""The blake3 digest of a step's canonical key payload: 64 lower-case hexadecimal digits."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_MAX_PARTS: Final = 8


def is_hex_digest(text: object) -> bool:
    """Tell whether ``text`` is a str of exactly 64 lower-case hexadecimal digits."""
    return isinstance(text, str) and _HEX.fullmatch(text) is not None


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it is a plain name.

    Raises:
        NameRefusedError: unless it is 1 to 128 of ``A-Z a-z 0-9 _ . -``, first a letter or digit.
    """
    if NAME.fullmatch(name) is None:
        raise NameRefusedError(
            f"{what} {name!r} is refused: use 1 to 128 of A-Z a-z 0-9 _ . - with a letter or digit "
            "first"
        )
    return name


def check_inside(names: Iterable[str]) -> None:
    """Check that relative names lead nowhere outside of their folder; otherwise they are free.

    Raises:
        NameRefusedError: for a name that is absolute, or has an empty part, "..", or NUL.
    """
    for name in names:
        if "\0" in name or not all(part not in ("", ".", "..") for part in name.split("/")):
            raise NameRefusedError(f"file name {name[:200]!r} leads out of its folder")


def check_file_names(names: Iterable[str]) -> None:
    """Check the relative ``/``-separated names of one output's files.

    Raises:
        NameRefusedError: for a part that is no plain name, more than 8 parts, or a name that is
            also the folder of another one.
    """
    known = set(names)
    for name in known:
        parts = name.split("/")
        if len(parts) > _MAX_PARTS:
            raise NameRefusedError(f"file name {name!r} has more than {_MAX_PARTS} parts")
        for part in parts:
            check_name(part, f"part of file name {name!r}:")
        for end in range(1, len(parts)):
            folder = "/".join(parts[:end])
            if folder in known:
                raise NameRefusedError(f"{folder!r} is both a file and the folder of {name!r}")
