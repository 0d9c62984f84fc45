"""Folders that can be checked: a manifest, written last, holds the digest of every file.

A folder without a manifest was never finished. If its files do not match the manifest, it is not
what was written: a bit flipped on the disk, or a file was cut, emptied, removed or added.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from paraknow_core.durable_files import flush, settle
from paraknow_core.errors import CheckpointError

MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1
_MAX_MANIFEST_BYTES: Final = 16 * 2**20


class BrokenSealError(CheckpointError):
    """A folder is not as it was sealed; the message is the reason alone, as part of a sentence."""


def seal(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a folder whose files have all been written, and sync everything.

    Args:
        folder: holds plain files only.
        facts: plain JSON values, kept in the manifest.

    Raises:
        BrokenSealError: if it holds anything but plain files.
    """
    files = {}
    for name, status in _files(folder).items():
        # Before the manifest: after a power cut, a manifest must not stand for lost bytes.
        flush(folder / name)
        files[name] = {"size": status.st_size, "sha256": _digest(folder / name)}
    flush(folder)
    body = {"format": _FORMAT, "files": files, "facts": dict(facts)}
    draft = folder / f"{MANIFEST}.part"
    draft.write_bytes(_encode({"body": body, "check": _check_of(body)}))
    settle(draft, folder / MANIFEST)


def sealed_facts(folder: Path) -> dict[str, Any]:
    """Check every byte of a sealed folder, and return its facts.

    Raises:
        BrokenSealError: names the first thing that does not fit.
    """
    if not stat.S_ISDIR(_status(folder).st_mode):
        raise BrokenSealError("it is no plain folder")
    there = _files(folder)
    if MANIFEST not in there:
        raise BrokenSealError("nothing says that it was finished: it has no manifest")
    body = _read_manifest(folder / MANIFEST, there.pop(MANIFEST).st_size)
    files = body["files"]
    for name in sorted(files.keys() | there.keys()):
        if name not in there:
            raise BrokenSealError(f"{name} is missing")
        if name not in files:
            raise BrokenSealError(f"{name} was added")
        if there[name].st_size != files[name]["size"]:
            size, written = there[name].st_size, files[name]["size"]
            raise BrokenSealError(f"{name} has {size} bytes, and {written} were written")
    for name, entry in files.items():
        if _digest(folder / name) != entry["sha256"]:
            raise BrokenSealError(f"{name} does not have the bytes that were written")
    facts: dict[str, Any] = body["facts"]
    return facts


def _read_manifest(path: Path, size: int) -> dict[str, Any]:
    """Read what ``seal`` wrote; anything that it cannot have written is refused."""
    if size > _MAX_MANIFEST_BYTES:
        raise BrokenSealError("its manifest is too long")
    try:
        data = path.read_bytes()
        value = json.loads(data)
        body = value["body"]
        intact = _encode(value) == data and value["check"] == _check_of(body)
    except OSError as error:
        raise BrokenSealError(f"its manifest cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError):
        intact = False
    if not intact:
        raise BrokenSealError("its manifest is damaged")
    if body["format"] != _FORMAT:
        raise BrokenSealError(f"its manifest has format {body['format']}, not {_FORMAT}")
    found: dict[str, Any] = body
    return found


def _files(folder: Path) -> dict[str, os.stat_result]:
    """Return the files of a folder; a link, a pipe or a folder in it is never opened."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise BrokenSealError(f"it cannot be read ({error.strerror})") from error
    found = {}
    for path in paths:
        found[path.name] = _status(path)
        if not stat.S_ISREG(found[path.name].st_mode):
            raise BrokenSealError(f"{path.name} is no plain file")
    return found


def _status(path: Path) -> os.stat_result:
    try:
        return path.lstat()
    except OSError as error:
        raise BrokenSealError(f"{path.name} cannot be read ({error.strerror})") from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BrokenSealError(f"{path.name} cannot be read ({error.strerror})") from error


def _check_of(body: Any) -> str:
    return hashlib.sha256(_encode(body)).hexdigest()


def _encode(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode() + b"\n"
