"""Which files were already hashed on this host: a stat signature in place of reading them again.

The stamps are derived: losing or damaging one costs at most a second hash. Each is signed with a
key that lies outside the store and that only its user can read, so one that another user wrote, or
that was written for another file or host, counts for nothing. They are kept per host, because
another host may see other bytes through another cache or cable.
"""

import contextlib
import hmac
import os
import platform
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final

from artifacts.canonical import canonical_bytes, parse
from artifacts.disk.digests import digest_bytes
from artifacts.disk.files import new_file, read_small, write_all
from artifacts.disk.signing import signature
from artifacts.errors import CanonicalError
from artifacts.names import Digest, is_hex_digest

_LIMIT: Final = 64 * 1024
SETTLED_NS: Final = 2_000_000_000
"""A file changed more recently than this may change again within one tick of the file system's
clock without its stamp showing it, so its digest is not remembered (2 s is FAT's tick)."""


@dataclass(frozen=True)
class Stamp:
    """What ``stat`` says of a file's identity and last change."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Take the stamp out of a stat result."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    def is_settled(self) -> bool:
        """Tell whether the last change lies far enough back to trust the stamp."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > SETTLED_NS


class StampCache:
    """Remember ``name -> (stamp, digest)`` in memory and in one small file for each name.

    Args:
        folder: where the files lie; made on first use.
        temporary: a folder on the same file system for drafts.
        write: False keeps everything in memory, as for a read-only store.
    """

    def __init__(self, folder: Path, temporary: Path, *, write: bool) -> None:
        self._folder = folder / digest_bytes(platform.node().encode())[:16]
        self._temporary = temporary
        self._write = write
        self._seen: dict[str, tuple[Stamp, Digest]] = {}

    def recall(self, name: str, stamp: Stamp) -> Digest | None:
        """Return the digest remembered for ``name`` if its stamp is still the same."""
        known = self._seen.get(name) or self._load(name)
        if known is None or known[0] != stamp:
            return None
        self._seen[name] = known
        return known[1]

    def remember(self, name: str, stamp: Stamp, digest: Digest) -> None:
        """Keep a digest that was just computed; a failure to write it down costs only time."""
        self._seen[name] = (stamp, digest)
        if not self._write:
            return
        path, signed = self._path(name), _signature(name, stamp, digest)
        if signed is None:
            return
        fields = {"name": name, "stamp": list(astuple(stamp)), "digest": digest, "signed": signed}
        data = canonical_bytes(fields)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with new_file(self._temporary) as (descriptor, draft):
                write_all(descriptor, data)
                draft.rename(path)

    def forget(self, name: str) -> None:
        """Drop what is remembered, so that the file is hashed at its next use."""
        self._seen.pop(name, None)
        if self._write:
            with contextlib.suppress(OSError):
                self._path(name).unlink()

    def _path(self, name: str) -> Path:
        place = digest_bytes(name.encode())
        return self._folder / place[:2] / place

    def _load(self, name: str) -> tuple[Stamp, Digest] | None:
        try:
            data = read_small(self._path(name), _LIMIT)
            value = parse(data) if data is not None else None
        except (OSError, CanonicalError):
            return None
        match value:
            case {
                "name": str(said),
                "stamp": [int(), int(), int(), int()] as numbers,
                "digest": d,
                "signed": str(signed),
            }:
                stamp, digest = Stamp(*numbers), Digest(str(d))
                if said == name and is_hex_digest(d) and _is_own(signed, name, stamp, digest):
                    return stamp, digest
        return None


def _signature(name: str, stamp: Stamp, digest: Digest) -> str | None:
    return signature(["stamp", platform.node(), name, list(astuple(stamp)), digest])


def _is_own(signed: str, name: str, stamp: Stamp, digest: Digest) -> bool:
    ours = _signature(name, stamp, digest)
    return ours is not None and hmac.compare_digest(signed.encode(), ours.encode())
