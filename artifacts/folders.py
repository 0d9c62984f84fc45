"""The digests of a folder outside the store, such as a model's: 140 GB are not read twice."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from artifacts.digests import BytesProgress, hash_file, no_bytes_progress
from artifacts.errors import StoreIOError
from artifacts.files import reading
from artifacts.names import check_inside
from artifacts.records import FileEntry
from artifacts.stamps import Stamp, StampCache


def digest_folder(
    folder: Path,
    names: Iterable[str],
    *,
    stamps: StampCache | None = None,
    progress: BytesProgress = no_bytes_progress,
) -> dict[str, FileEntry]:
    """Digest some files of a folder; ``folder_digest`` of the result is the folder's identity.

    Links are followed, because a Hub snapshot is made of links into its blob folder; only names
    and bytes count, so a snapshot and a plain copy of it have the same identity.

    Args:
        folder: that holds the files.
        names: relative, ``/``-separated; those of other people's files, so they are free.
        stamps: digests taken earlier on this host; None reads every file.
        progress: called as ``progress(bytes done, bytes total, name)``.

    Returns:
        name -> digest and size, in name order.

    Raises:
        StoreIOError: if a file is missing, is no regular file, changes, or cannot be read.
        NameRefusedError: for a name that leads out of the folder.
    """
    wanted = sorted(set(names))
    check_inside(wanted)
    found = {name: _stamp(folder / name) for name in wanted}
    total = sum(stamp.size for stamp in found.values())
    entries, done = {}, 0
    for name, stamp in found.items():
        start = done

        def report(count: int, _size: int, text: str, start: int = start) -> None:
            progress(start + count, total, text)

        entries[name] = _entry(folder / name, stamp, stamps, report)
        done += stamp.size
        progress(done, total, name)
    return entries


def _stamp(path: Path) -> Stamp:
    with reading(path):
        status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StoreIOError(f"cannot digest {path}: it is no regular file")
    return Stamp.of(status)


def _entry(
    path: Path, stamp: Stamp, stamps: StampCache | None, progress: BytesProgress
) -> FileEntry:
    name = os.path.realpath(path)
    if stamps is not None and (known := stamps.recall(name, stamp)) is not None:
        return FileEntry(known, stamp.size)
    digest = hash_file(path, progress=progress)
    if _stamp(path) != stamp:
        raise StoreIOError(f"{path} changed while it was digested; run again when it is complete")
    if stamps is not None and stamp.is_settled():
        stamps.remember(name, stamp, digest)
    return FileEntry(digest, stamp.size)
