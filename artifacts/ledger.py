"""The records of a store: key -> record, each name created once and never used for another.

A key's records are ``<key>.json``, ``<key>.g1.json``, ``<key>.g2.json`` and so on, without a gap;
the last one counts. A further one is published when the last is damaged, has lost an object, or is
to be replaced on purpose. So two writers that heal the same key at the same time agree, as two
first writers do: whoever creates the next name wins.
"""

import contextlib
import itertools
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from artifacts.disk.files import (
    ensure_folder,
    read_small,
    reading,
    replace_file,
    retrying,
    sync_folder,
    temporary_path,
    write_new,
)
from artifacts.errors import CorruptRecordError, UnknownKeyError
from artifacts.names import StepKey, is_hex_digest
from artifacts.records import MAX_RECORD_BYTES, TOMBSTONE, Record, decode_record

_FIRST: Final = re.compile(r"([0-9a-f]{64})\.json")
_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_USE_SECONDS: Final = 3600.0
_log = logging.getLogger(__name__)


class Current(NamedTuple):
    """The last generation under a key; ``record`` is None if it is damaged."""

    generation: int
    record: Record | None


class LastName(NamedTuple):
    """Where the last generation under a key lies."""

    key: StepKey
    generation: int
    entry: os.DirEntry[str]


class Ledger:
    """The ``records/`` folder.

    Args:
        root: the store's folder.
        read_only: True leaves a damaged record where it is.
    """

    def __init__(self, root: Path, *, read_only: bool) -> None:
        self._root = root
        self._read_only = read_only

    def path(self, key: StepKey, generation: int = 0) -> Path:
        """Return where a record lies, whether or not it exists."""
        if not is_hex_digest(key):
            raise UnknownKeyError(f"{key!r} is no step key (64 hexadecimal digits)")
        suffix = f".g{generation}.json" if generation else ".json"
        return self._root / "records" / key[:2] / f"{key}{suffix}"

    def all_keys(self, prefix: str = "") -> Iterator[StepKey]:
        """Iterate over every key that has a record and begins with ``prefix``, in order."""
        with reading(self._root / "records"):
            shards = sorted(
                p for p in (self._root / "records").iterdir() if _SHARD.fullmatch(p.name)
            )
            for shard in (s for s in shards if s.name.startswith(prefix[:2])):
                for path in sorted(shard.iterdir()):
                    match = _FIRST.fullmatch(path.name)
                    if match is not None and match[1].startswith(prefix):
                        yield StepKey(match[1])

    def last_names(self) -> Iterator[LastName]:
        """Iterate over the last generation of every key, in key order, without reading one.

        Raises:
            StoreIOError: if a folder could not be read.
        """
        folder = self._root / "records"
        with reading(folder):
            for shard in sorted(p.name for p in folder.iterdir() if _SHARD.fullmatch(p.name)):
                with os.scandir(folder / shard) as entries:
                    files = {entry.name: entry for entry in entries}
                firsts = (name for name in files if name.startswith(shard))
                for key in sorted(name[:64] for name in firsts if _FIRST.fullmatch(name)):
                    generation, last = 0, files[f"{key}.json"]
                    while following := files.get(f"{key}.g{generation + 1}.json"):
                        generation, last = generation + 1, following
                    yield LastName(StepKey(key), generation, last)

    def raw(self, key: StepKey, generation: int) -> bytes:
        """Return a record's bytes as they lie there, unchecked; empty if it is gone or no file.

        Raises:
            StoreIOError: if it could not be read.
        """
        found = self._read(key, generation)
        return found[0] or b"" if found is not None else b""

    def current(self, key: StepKey) -> Current | None:
        """Read the last generation of a key; a damaged one is quarantined and marked.

        Raises:
            StoreIOError: if it could not be read; that is no corruption.
            StoreFormatError: if it was written by a newer version.
        """
        generation, last = 0, self._read(key, 0)
        if last is None:
            return None
        while (following := self._read(key, generation + 1)) is not None:
            generation, last = generation + 1, following
        if last[0] == TOMBSTONE:
            return Current(generation, None)
        try:
            return Current(generation, decode_record(last[0], key=key, generation=generation))
        except CorruptRecordError as error:
            self._mark_damaged(self.path(key, generation), error)
            return Current(generation, None)

    def append(self, record: Record) -> bool:
        """Create the record under its key and generation, durable.

        Returns:
            False if another writer took that name.
        """
        path = self.path(record.key, record.generation)
        ensure_folder(path.parent)
        return write_new(path, record.encode(), self._root / "tmp")

    def generations(self, key: StepKey) -> int:
        """Return how many names of a key are taken, damaged ones included."""
        count = 0
        while os.path.lexists(self.path(key, count)):
            count += 1
        return count

    def all_generations(self, key: StepKey) -> Iterator[Record]:
        """Iterate over a key's records, those that no longer count included, damaged ones not.

        Raises:
            StoreIOError: if one could not be read.
        """
        for generation in itertools.count():
            found = self._read(key, generation)
            if found is None:
                return
            with contextlib.suppress(CorruptRecordError):
                yield decode_record(found[0], key=key, generation=generation)

    def last_used(self, record: Record) -> float | None:
        """Return when a record was published or last looked up, None if it is not there.

        Seconds since the epoch by the file system's clock, an hour exact.
        """
        with contextlib.suppress(FileNotFoundError):
            return self.path(record.key, record.generation).lstat().st_mtime
        return None

    def touch(self, record: Record) -> None:
        """Note that a record was used, so that a collection by age or size spares it."""
        if self._read_only:
            return
        with contextlib.suppress(OSError):  # another user's record: its owner's uses count
            path = self.path(record.key, record.generation)
            if abs(time.time() - path.lstat().st_mtime) > _USE_SECONDS:
                os.utime(path, follow_symlinks=False)

    def make_durable(self, key: StepKey) -> None:
        """Sync the name of a record that another process may have only just created."""
        sync_folder(self.path(key).parent)

    def _read(self, key: StepKey, generation: int) -> tuple[bytes | None] | None:
        path = self.path(key, generation)
        with reading(path):
            return retrying(lambda: (read_small(path, MAX_RECORD_BYTES),))

    def _mark_damaged(self, path: Path, error: CorruptRecordError) -> None:
        """Keep the damaged bytes in quarantine and put a tombstone under the name.

        The name is never free in between, so no other writer's good record can be hit.
        """
        _log.warning("%s", error)
        if self._read_only:
            return
        kept = temporary_path(self._root / "quarantine").with_suffix(f".{path.name}")
        try:
            try:
                os.link(path, kept, follow_symlinks=False)
            except PermissionError:  # what Linux answers for a folder
                path.rename(kept)
            replace_file(path, TOMBSTONE, self._root / "tmp")
        except OSError as problem:
            _log.warning("could not move damaged %s to quarantine: %s", path, problem)
            with contextlib.suppress(OSError):
                kept.unlink(missing_ok=True)
