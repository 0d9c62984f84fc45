"""Records and objects in a backend, under the names that they have in a store.

Objects lie under their digests and are checked when they are read. A record is put after all its
objects, under a name that was free: ``records/ab/<key>.json``, and for later generations
``<key>.g1.json`` and so on, as in a store.
"""

import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from artifacts.canonical import canonical_bytes
from artifacts.errors import CorruptRecordError, RemoteError, StoreFormatError
from artifacts.ledger import Current
from artifacts.names import Digest, StepKey
from artifacts.objects import Objects
from artifacts.records import MAX_RECORD_BYTES, Record, decode_record
from artifacts.remote.backend import Backend, Entry
from artifacts.remote.probe import Capabilities, probe

PART: Final = 8 * 1024 * 1024
RECORDS: Final = "records/"
OBJECTS: Final = "objects/"
_RECORD_NAME: Final = re.compile(r"records/([0-9a-f]{2})/(\1[0-9a-f]{62})(?:\.g([1-9]\d*))?\.json")
_OBJECT_NAME: Final = re.compile(r"objects/([0-9a-f]{2})/(\1[0-9a-f]{62})")
_FORMAT_NAME: Final = "store.json"
_FORMAT: Final = canonical_bytes({"format": 1, "hash": "blake3", "kind": "shared tier"})
_SMALL: Final = 64 * 1024
_FRESH_SECONDS: Final = 43200.0
_log = logging.getLogger(__name__)


class Bucket:
    """The shared tier as records and objects; each method raises RemoteError if it is down.

    Args:
        backend: that holds the bytes.
        capabilities: what it can do, if that is known; otherwise it is tried when it matters.

    Attributes:
        distrusted: objects whose bytes were found missing or wrong there; they are put anew.
    """

    def __init__(self, backend: Backend, capabilities: Capabilities | None = None) -> None:
        self.backend = backend
        self.distrusted: set[Digest] = set()
        self._lock = threading.Lock()
        self._capabilities = capabilities
        self._known_format = False

    @property
    def capabilities(self) -> Capabilities:
        """What the backend can do; it is tried once."""
        with self._lock:
            if self._capabilities is None:
                self._capabilities = probe(self.backend)
            return self._capabilities

    # -- records

    def current(self, key: StepKey) -> Current | None:
        """Read the last generation of a key; no object is asked for.

        Raises:
            StoreFormatError: if the tier or the record was written by a newer version.
        """
        self.check_format()
        generation, last = 0, self._read(key, 0)
        if last is None:
            return None
        while (following := self._read(key, generation + 1)) is not None:
            generation, last = generation + 1, following
        try:
            return Current(generation, decode_record(last, key=key, generation=generation))
        except CorruptRecordError as error:
            _log.warning("in the shared tier %s: %s", self.backend.url, error)
            return Current(generation, None)

    def append(self, record: Record) -> bool:
        """Put a record under its key and generation.

        Returns:
            False if that name is taken, perhaps by this very record: read again who won.
        """
        name, data = record_name(record.key, record.generation), record.encode()
        if self.capabilities.conditional:
            return self.backend.put_if_absent(name, data)
        # The next best thing: of two writers within the same moment, the later one counts.
        if self.backend.get(name, 0, 1) is not None:
            return False
        self.backend.put(name, data)
        return True

    def names(self) -> Iterator[tuple[StepKey, int, Entry]]:
        """List (key, generation, entry) of every record; other names are passed over."""
        for entry in self.backend.list(RECORDS):
            if match := _RECORD_NAME.fullmatch(entry.name):
                yield StepKey(match[2]), int(match[3] or 0), entry

    def remove(self, key: StepKey, generation: int) -> None:
        """Take a key's records away, the highest generation first, so that none is ever missing."""
        for number in range(generation, -1, -1):
            self.backend.delete(record_name(key, number))

    # -- objects

    def fetch(self, record: Record, objects: Objects) -> bool:
        """Bring all objects of a record that are not here into a store; each digest is checked.

        Returns:
            False if one is missing there, or its bytes are wrong.
        """
        return all(
            objects.is_intact(digest, size) or self._fetch(digest, size, objects)
            for digest, size in record.objects().items()
        )

    def send(self, record: Record, objects: Objects) -> None:
        """Put all objects of a record, which are in the store, unless they are there."""
        for digest, size in record.objects().items():
            path = objects.path(digest)
            if not self._holds(digest, size, path):
                self.backend.put(object_name(digest), path)
                self.distrusted.discard(digest)

    def object_entries(self) -> Iterator[tuple[Digest, Entry]]:
        """List (digest, entry) of every object."""
        for entry in self.backend.list(OBJECTS):
            if match := _OBJECT_NAME.fullmatch(entry.name):
                yield Digest(match[2]), entry

    def remove_object(self, digest: Digest, *, older_than: float) -> bool:
        """Take an object away, unless it was put again within the last ``older_than`` seconds."""
        name = object_name(digest)
        entry = self.backend.head(name)
        if entry is None or self.capabilities.clock.now() - entry.modified < older_than:
            return False
        self.backend.delete(name)
        return True

    def publish(self, record: Record, objects: Objects, replaces: Record | None) -> Record:
        """Put a record with its objects, or find out which one was faster.

        Args:
            record: with all its objects in the store.
            objects: of the store.
            replaces: a record that does not count as a winner.

        Returns:
            The record that counts among all machines from now on, as the bucket has it.

        Raises:
            RemoteError: if the bucket failed; running it again heals.
        """
        sent = False
        for _attempt in range(10):
            found = self.current(record.key)
            if winner := self._winner(found, record, replaces):
                if not sent and same_content(winner, record):
                    self.send(record, objects)  # heals what went missing since
                return winner
            if not sent:
                self.send(record, objects)
                self.backend.put_if_absent(_FORMAT_NAME, _FORMAT)
                sent = True
            mine = replace(record, generation=found.generation + 1 if found else 0)
            if self.append(mine) and self.capabilities.conditional:
                return mine
        raise RemoteError(f"{self.backend.url} takes no record of {record.key[:12]}")

    def _winner(
        self, found: Current | None, ours: Record, replaces: Record | None
    ) -> Record | None:
        if found is None or found.record is None:
            return None
        if replaces is not None and same_content(found.record, replaces):
            return None
        if same_content(found.record, ours):
            return found.record
        # One whose objects were found damaged gives way to a next generation.
        return None if self.distrusted & found.record.objects().keys() else found.record

    def _read(self, key: StepKey, generation: int) -> bytes | None:
        part = self.backend.get(record_name(key, generation), 0, MAX_RECORD_BYTES)
        return None if part is None else part.data

    def check_format(self) -> None:
        """Refuse a folder that another version laid out; asks once.

        Raises:
            StoreFormatError: if it is one.
        """
        if self._known_format:
            return
        found = self.backend.get(_FORMAT_NAME, 0, _SMALL)
        if found is not None and found.data != _FORMAT:
            raise StoreFormatError(
                f"{self.backend.url} is no shared tier of this version of paraknow: its "
                f"{_FORMAT_NAME} is another. Upgrade paraknow, or give another folder"
            )
        self._known_format = True

    def _fetch(self, digest: Digest, size: int, objects: Objects) -> bool:
        for _attempt in range(2):  # an answer that was cut short may be whole the next time
            if objects.put_expected(digest, size, self._parts(digest, size)):
                return True
        _log.warning(
            "object %s in the shared tier %s is missing or has other bytes; its result counts as "
            "not there",
            digest,
            self.backend.url,
        )
        self.distrusted.add(digest)
        return False

    def _parts(self, digest: Digest, size: int) -> Iterator[bytes]:
        start = 0
        while start < size:
            part = self.backend.get(object_name(digest), start, min(start + PART, size))
            if part is None or not part.data or part.entry.size != size:
                return
            yield part.data
            start += len(part.data)

    def _holds(self, digest: Digest, size: int, path: Path) -> bool:
        """Tell whether a large object is there, by its size and its end, not by word alone.

        A small one is rather put again. So is one that is old: a collection spares what is young,
        and must not take what a record is about to need.
        """
        if size <= _SMALL or digest in self.distrusted:
            return False
        found = self.backend.get(object_name(digest), size - _SMALL, size)
        if found is None or found.entry.size != size:
            return False
        with path.open("rb") as file:
            file.seek(size - _SMALL)
            there = file.read() == found.data
        return there and self.capabilities.clock.now() - found.entry.modified < _FRESH_SECONDS


def record_name(key: StepKey, generation: int) -> str:
    """Return the name of a record in the backend."""
    suffix = f".g{generation}.json" if generation else ".json"
    return f"{RECORDS}{key[:2]}/{key}{suffix}"


def object_name(digest: Digest) -> str:
    """Return the name of an object in the backend."""
    return f"{OBJECTS}{digest[:2]}/{digest}"


def same_content(one: Record, other: Record) -> bool:
    """Tell whether two records are the same but for their generations, which differ by store."""
    return replace(one, generation=0) == replace(other, generation=0)
