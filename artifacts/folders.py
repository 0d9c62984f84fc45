"""The digests of a folder outside the store, such as a model's: 140 GB are not read twice."""

import os
import stat
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

from artifacts.disk.digests import BytesProgress, hash_file, no_bytes_progress
from artifacts.disk.files import reading
from artifacts.disk.stamps import Stamp, StampCache
from artifacts.errors import StoreIOError
from artifacts.names import Digest, check_inside
from artifacts.records import FileEntry

_READ_HERE: dict[str, tuple[Stamp, Digest]] = {}
"""Real path → stamp and digest of each file whose bytes this process itself has hashed."""
_READING = threading.Lock()
"""So that of two steps that need the same 140 GB file at once only one reads it."""


def digest_folder(
    folder: Path,
    names: Iterable[str],
    *,
    stamps: StampCache | None = None,
    read_here: bool = False,
    progress: BytesProgress = no_bytes_progress,
) -> dict[str, FileEntry]:
    """Digest some files of a folder; ``folder_digest`` of the result is the folder's identity.

    Links are followed, because a Hub snapshot is made of links into its blob folder; only names
    and bytes count, so a snapshot and a plain copy of it have the same identity.

    Args:
        folder: that holds the files.
        names: relative, ``/``-separated; those of other people's files, so they are free.
        stamps: digests taken earlier on this host; None reads every file.
        read_here: believe no earlier process: each file's bytes are read once in this one, and
            again only when its stamp has changed. Digests of what is read still go to ``stamps``.
        progress: called as ``progress(bytes done, bytes total, name)`` from when a file is read.

    Returns:
        name -> digest and size, in name order.

    Raises:
        StoreIOError: if a file is missing, is no regular file, changes, or cannot be read.
        NameRefusedError: for a name that leads out of the folder.
    """
    wanted = sorted(set(names))
    check_inside(wanted)
    found = {name: stamp_of(folder / name) for name in wanted}
    total = sum(stamp.size for stamp in found.values())
    entries, done, reads = {}, 0, False
    for name, stamp in found.items():
        start = done

        def report(count: int, _size: int, text: str, start: int = start) -> None:
            nonlocal reads
            reads = True
            progress(start + count, total, text)

        with _READING if read_here else nullcontext():
            entries[name] = _entry(folder / name, stamp, stamps, report, read_here=read_here)
        done += stamp.size
        if reads:
            progress(done, total, name)
    return entries


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a regular file, links followed.

    Raises:
        StoreIOError: if it is missing, is no regular file, or cannot be read.
    """
    with reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StoreIOError(f"cannot digest {path}: it is no regular file")
    return Stamp.of(status)


def _entry(
    path: Path,
    stamp: Stamp,
    stamps: StampCache | None,
    progress: BytesProgress,
    *,
    read_here: bool,
) -> FileEntry:
    name = os.path.realpath(path)
    known = _recall(name, stamp, stamps, read_here=read_here)
    if known is not None:
        return FileEntry(known, stamp.size)
    digest = hash_file(path, progress=progress)
    if stamp_of(path) != stamp:
        raise StoreIOError(f"{path} changed while it was digested; run again when it is complete")
    if stamp.is_settled():
        _READ_HERE[name] = (stamp, digest)
        if stamps is not None:
            stamps.remember(name, stamp, digest)
    return FileEntry(digest, stamp.size)


def _recall(
    name: str, stamp: Stamp, stamps: StampCache | None, *, read_here: bool
) -> Digest | None:
    if read_here:
        known = _READ_HERE.get(name)
        return known[1] if known is not None and known[0] == stamp else None
    return stamps.recall(name, stamp) if stamps is not None else None
