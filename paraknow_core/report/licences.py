"""The licence that a model folder states, as far as it states one. Needs no torch."""

import re
from pathlib import Path

from paraknow_core.printable import plain

UNKNOWN = "unknown"
_HEAD_BYTES = 64 * 1024
_FIELD = re.compile(r"(license|license_name):\s*(\S.*)")
_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


def stated_licence(folder: Path) -> str:
    """Return what a model folder says of its licence.

    It is read from the front matter of README.md (``license_name`` before ``license``), else from
    the first line of a licence file. Whether it is true is not checked.

    Returns:
        A short text of one line, ``unknown`` if nothing is stated. May be hostile: escape it.
    """
    found = _front_matter(_head(folder / "README.md"))
    name = found.get("license_name") or found.get("license")
    if name:
        return plain(name.strip("\"'"), longest=80)
    for file in _FILES:
        first = next((line for line in _head(folder / file).splitlines() if line.strip()), "")
        if first:
            return plain(f"{file}: {first.strip()}", longest=80)
    return UNKNOWN


def _head(path: Path) -> str:
    if not path.is_file():  # a pipe would block
        return ""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES).decode(errors="replace")
    except OSError:
        return ""  # not readable: then it states nothing


def _front_matter(text: str) -> dict[str, str]:
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        if match := _FIELD.fullmatch(line.rstrip()):
            found[match[1]] = match[2].split(" #")[0].strip()
    return {}
