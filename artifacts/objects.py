"""The objects of a store: digest -> bytes, immutable, checked before they are handed out."""

import contextlib
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from blake3 import blake3

from artifacts.disk.digests import digest_bytes, hash_descriptor
from artifacts.disk.files import (
    ensure_folder,
    new_file,
    open_regular,
    reading,
    retrying,
    seal,
    sync_folder,
    temporary_path,
    write_all,
)
from artifacts.disk.stamps import Stamp, StampCache
from artifacts.disk.streams import copy_hashing, flushing
from artifacts.errors import NameRefusedError, StoreIOError
from artifacts.names import Digest, is_hex_digest
from artifacts.records import FileEntry

_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_log = logging.getLogger(__name__)


class Objects:
    """The ``objects/`` folder.

    Args:
        root: the store's folder.
        stamps: remembers which objects were verified on this host.
        read_only: True leaves a corrupt object where it is.
    """

    def __init__(self, root: Path, stamps: StampCache, *, read_only: bool) -> None:
        self._root = root
        self._stamps = stamps
        self._read_only = read_only

    def path(self, digest: Digest) -> Path:
        """Return where an object lies, whether or not it exists."""
        if not is_hex_digest(digest):
            raise NameRefusedError(f"{digest!r} is no digest (64 hexadecimal digits)")
        return self._root / "objects" / digest[:2] / digest

    def digests(self) -> list[Digest]:
        """List every object present, in order."""
        return [
            Digest(path.name)
            for path in sorted((self._root / "objects").glob("[0-9a-f][0-9a-f]/*"))
            if is_hex_digest(path.name) and path.parent.name == path.name[:2]
        ]

    def sizes(self) -> Iterator[tuple[Digest, int]]:
        """Iterate over every object present, in order, with its bytes on the disk.

        Raises:
            OSError: if a folder cannot be read.
        """
        folder = self._root / "objects"
        for shard in sorted(p.name for p in folder.iterdir() if _SHARD.fullmatch(p.name)):
            with os.scandir(folder / shard) as entries:
                found = {entry.name: entry for entry in entries if is_hex_digest(entry.name)}
            for name in sorted(found):
                if name.startswith(shard):
                    with contextlib.suppress(FileNotFoundError):
                        yield Digest(name), found[name].stat(follow_symlinks=False).st_size

    def is_intact(self, digest: Digest, size: int | None, *, again: bool = False) -> bool:
        """Tell whether an object is there with the right bytes; a corrupt one is quarantined.

        Args:
            digest: of the object.
            size: the recorded size in bytes, None if unknown.
            again: hash it even if its stamp says that it was verified on this host before.

        Raises:
            StoreIOError: if it could not be read; that is no corruption.
        """
        return bool(self._look(digest, size, again=again))

    def restore(self, digest: Digest) -> bool:
        """Take an object back out of the trash, if a collection put it there.

        A collection that finds nobody in need of an object may be wrong by the time it has moved
        it; whoever needs it then needs only this.
        """
        trashed, path = self._root / "trash" / digest, self.path(digest)
        if self._read_only or not trashed.exists():
            return False
        try:
            with contextlib.suppress(FileExistsError):
                os.link(trashed, path, follow_symlinks=False)
            sync_folder(path.parent)
            trashed.unlink()
        except FileNotFoundError:
            return path.exists()
        except OSError as error:
            _log.warning("could not take %s out of the trash: %s", path, error)
        return path.exists()

    def put_bytes(self, data: bytes) -> FileEntry:
        """Store some bytes."""
        digest = digest_bytes(data)
        with new_file(self._root / "tmp") as (descriptor, draft):
            write_all(descriptor, data)
            return self._place(descriptor, draft, FileEntry(digest, len(data)))

    def put_file(self, source: Path) -> FileEntry:
        """Store a file; one that lies in the store's work folder is moved, any other copied.

        Raises:
            StoreIOError: if it is no regular file, cannot be read, or changes meanwhile.
        """
        with reading(source):
            descriptor = open_regular(source)
        if descriptor is None:
            raise StoreIOError(f"cannot publish {source}: it is a link or no regular file")
        try:
            # A second hard link could be written through later: such a file is copied.
            movable = self._is_in_work(source) and os.fstat(descriptor).st_nlink == 1
            return (self._move if movable else self._copy)(descriptor, source)
        finally:
            os.close(descriptor)

    def put_expected(self, digest: Digest, size: int, parts: Iterable[bytes]) -> bool:
        """Store an object that arrives in parts from elsewhere, if it is the one expected.

        Args:
            digest: that its bytes must have.
            size: in bytes; no more than these are written.
            parts: the bytes in their order.

        Returns:
            Whether it was; otherwise nothing is stored.
        """
        hasher, count = blake3(), 0
        with new_file(self._root / "tmp") as (descriptor, draft):
            for part in parts:
                count += len(part)
                if count > size:
                    return False
                hasher.update(part)
                write_all(descriptor, part)
            if (count, hasher.hexdigest()) != (size, digest):
                return False
            self._place(descriptor, draft, FileEntry(digest, size))
        return True

    def quarantine(self, path: Path, judged: os.stat_result) -> Path | None:
        """Move a corrupt file out of the way, unless a healed one has taken its name meanwhile.

        Returns:
            Where it lies now, None if it was not moved.
        """
        if self._read_only:
            return None
        target = temporary_path(self._root / "quarantine").with_suffix(f".{path.name}")
        try:
            path.rename(target)
            if os.path.samestat(judged, os.lstat(target)):
                return target
            with contextlib.suppress(FileExistsError):
                os.link(target, path)
            target.unlink()
        except FileNotFoundError:
            return None  # another reader was faster
        except OSError as error:
            # Not moving it is safe: it stays a miss, and a publisher renames over it.
            _log.warning("could not move corrupt %s to quarantine: %s", path, error)
        return None

    def _look(self, digest: Digest, size: int | None, *, again: bool = False) -> bool | None:
        """Tell as ``is_intact`` does, but None where there is no file at all."""
        path = self.path(digest)

        def verify() -> bool:
            return self._verify(path, digest, size, again)

        with reading(path):
            found = retrying(verify)
            if found is None and self.restore(digest):
                found = retrying(verify)
        return found

    def _verify(self, path: Path, digest: Digest, size: int | None, again: bool) -> bool:
        status = os.lstat(path)
        stamp = Stamp.of(status)
        if stat.S_ISREG(status.st_mode) and size in (None, stamp.size):
            if not again and self._stamps.recall(digest, stamp) == digest:
                return True
            if self._hash(path) == digest:
                self._stamps.remember(digest, stamp, digest)
                return True
        self._stamps.forget(digest)
        moved = self.quarantine(path, status)
        _log.warning("object %s is corrupt%s", digest, f"; moved to {moved}" if moved else "")
        return False

    def _hash(self, path: Path) -> Digest | None:
        descriptor = open_regular(path)
        if descriptor is None:
            return None
        try:
            return hash_descriptor(descriptor)[0]
        finally:
            os.close(descriptor)

    def _is_in_work(self, source: Path) -> bool:
        return source.parent.resolve().is_relative_to(self._root / "work")

    def _move(self, descriptor: int, source: Path) -> FileEntry:
        with flushing(descriptor), reading(source):
            before = Stamp.of(os.fstat(descriptor))
            digest, size = hash_descriptor(descriptor)
            _refuse_changed(source, before, os.fstat(descriptor))
        return self._place(descriptor, source, FileEntry(digest, size))

    def _copy(self, descriptor: int, source: Path) -> FileEntry:
        def read_into(opened: int, buffer: memoryview) -> int:
            with reading(source):
                return os.readv(opened, [buffer])

        before = Stamp.of(os.fstat(descriptor))
        with new_file(self._root / "tmp") as (target, draft):
            digest, size = copy_hashing(descriptor, target, read_into)
            _refuse_changed(source, before, os.fstat(descriptor))
            return self._place(target, draft, FileEntry(digest, size))

    def _place(self, descriptor: int, path: Path, entry: FileEntry) -> FileEntry:
        """Give a complete file its final name, durable, unless the object is there already."""
        target = self.path(entry.digest)
        ensure_folder(target.parent)
        if not self.is_intact(entry.digest, entry.size):
            seal(descriptor)
            self._rename(descriptor, path, target, entry)
        # Also when another writer put it there: its name may not be durable yet.
        sync_folder(target.parent)
        return entry

    def _rename(self, descriptor: int, path: Path, target: Path, entry: FileEntry) -> None:
        try:
            path.rename(target)
        except OSError:
            # A lost reply, or another writer of the same bytes, is a success.
            if not self.is_intact(entry.digest, entry.size):
                raise
            return
        status = os.fstat(descriptor)
        try:
            replaced = not os.path.samestat(status, os.lstat(target))
        except FileNotFoundError:
            return  # collected this very moment: publish looks again after its record is written
        if not replaced:
            self._stamps.remember(entry.digest, Stamp.of(status), entry.digest)
        elif self._look(entry.digest, entry.size) is False:
            # Another writer may put the same bytes over ours; anything else was no file of ours.
            raise StoreIOError(f"cannot publish {path}: it was replaced while it was read")


def _refuse_changed(source: Path, before: Stamp, after: os.stat_result) -> None:
    if Stamp.of(after) != before:
        raise StoreIOError(
            f"cannot publish {source}: it changed while it was read. Close its writer first"
        )
