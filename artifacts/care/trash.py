"""Moving things out of a store in two steps, so that nothing is lost that somebody came to need.

A collection first moves what nobody needs into ``trash/`` and then reads the records again. A
publisher first writes its record and then looks for its objects again. Whichever comes later sees
the other: the collection puts the object back, or the publisher stores it again. So no lock is
needed, and none that fails can do harm. Only what was in the trash *before* the records were read
is deleted.
"""

import contextlib
import itertools
import logging
import os
import re
import shutil
from collections.abc import Set
from pathlib import Path
from typing import Final

from artifacts.disk.files import read_small, reading, retrying, sync_folder, temporary_path
from artifacts.errors import CorruptRecordError, StoreIOError
from artifacts.names import Digest, StepKey, is_hex_digest
from artifacts.records import MAX_RECORD_BYTES, Record, decode_record
from artifacts.store import Store

_RECORD: Final = re.compile(r"([0-9a-f]{64})(?:\.g([1-9][0-9]*))?\.json")
_HEX: Final = re.compile(rb"[0-9a-f]{64}")
_log = logging.getLogger(__name__)


class Trash:
    """The ``trash/`` folder: objects and records under their own names, the rest under any.

    Args:
        store: open for writing.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root / "trash"

    def put_object(self, digest: Digest) -> bool:
        """Move an object here; False if it is gone."""
        return self._take(self._store.objects.path(digest), self._root / digest)

    def put_record(self, key: StepKey, count: int) -> bool:
        """Move all ``count`` generations of a key here, the highest first.

        The names must stay without a gap. If a publisher adds the next generation meanwhile, all
        are put back, because without the ones before it nobody would find it.

        Args:
            key: of the records.
            count: of generations, as it was when they were judged.

        Returns:
            False if it was undone, or another process was faster.
        """
        ledger = self._store.ledger
        for generation in reversed(range(count)):
            path = ledger.path(key, generation)
            if not self._take(path, self._root / path.name):
                return False  # another collection was faster
            sync_folder(path.parent)
        if not os.path.lexists(ledger.path(key, count)):
            return True
        self.restore_record(key)
        return False

    def put_other(self, path: Path) -> bool:
        """Move any file or folder here under a new name; False if it is gone."""
        return self._take(path, temporary_path(self._root))

    def restore_record(self, key: StepKey) -> None:
        """Put the records of a key back, the lowest generation first.

        If the key was published anew meanwhile they stay away, all of them: a generation put back
        on top of the new record would take its place.

        Raises:
            StoreIOError: if one could not be put back.
        """
        ledger = self._store.ledger
        for generation in itertools.count():
            path = ledger.path(key, generation)
            trashed = self._root / path.name
            if os.path.lexists(trashed):
                if not self._put_back(trashed, path):
                    self._drop(key, generation)
                    return
            elif not os.path.lexists(path):
                return

    def quarantine_record(self, key: StepKey, count: int) -> None:
        """Move a key's records on into quarantine, so that no collection puts them back."""
        for generation in range(count):
            trashed = self._root / self._store.ledger.path(key, generation).name
            kept = temporary_path(self._store.root / "quarantine").with_suffix(f".{trashed.name}")
            self._take(trashed, kept)

    def record(self, path: Path) -> Record | None:
        """Read a record that lies here, None if it is gone or damaged."""
        match = _RECORD.fullmatch(path.name)
        if match is None:
            return None
        with contextlib.suppress(CorruptRecordError), reading(path):
            found = retrying(lambda: (read_small(path, MAX_RECORD_BYTES),))
            data = found[0] if found is not None else None
            return decode_record(data, key=StepKey(match[1]), generation=int(match[2] or 0))
        return None

    def content(self) -> list[Path]:
        """List what is here now."""
        with reading(self._root):
            return sorted(self._root.iterdir()) if self._root.is_dir() else []

    def delete(self, path: Path) -> None:
        """Remove one thing for good; a failure is logged, as the next collection tries again."""
        if not path.is_relative_to(self._root):
            raise ValueError(f"{path} is not in the trash")
        remove(path)

    def _drop(self, key: StepKey, generation: int) -> None:
        """Delete a key's trashed records from one generation on."""
        for number in itertools.count(generation):
            trashed = self._root / self._store.ledger.path(key, number).name
            if not os.path.lexists(trashed):
                return
            remove(trashed)

    def _put_back(self, trashed: Path, path: Path) -> bool:
        """Give a record its name back; False if another one has that name now."""
        try:
            try:
                os.link(trashed, path, follow_symlinks=False)
            except FileExistsError:
                if not os.path.samestat(trashed.lstat(), path.lstat()):
                    return False
            sync_folder(path.parent)
            trashed.unlink()
        except FileNotFoundError:
            pass  # another collection was faster
        except OSError as error:
            raise StoreIOError(
                f"cannot put {path} back from {trashed}: {error.strerror}. It stays in the trash; "
                "run `paraknow store gc --apply` again"
            ) from error
        return True

    def _take(self, path: Path, target: Path) -> bool:
        try:
            path.rename(target)
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.warning("cannot move %s to the trash: %s; it stays", path, error)
            return False
        return True


def still_needed(store: Store, objects: Set[Digest]) -> set[Digest]:
    """Return those of some objects that a result needs, by the records as they lie there now.

    This is what deletes for good, so it reads every record and uses no index. A record needs
    nothing that its bytes do not name; only one that names some of these is decoded.

    Raises:
        StoreIOError: if a record could not be read.
    """
    named = {digest.encode() for digest in objects}
    needed: set[Digest] = set()
    for last in store.ledger.last_names() if named else ():
        if not named.isdisjoint(_HEX.findall(store.ledger.raw(last.key, last.generation))):
            record = store.lookup_record(last.key)
            needed.update(record.objects() if record is not None else ())
    return needed & objects


def object_in(path: Path) -> Digest | None:
    """Return the digest of the object that a thing in the trash was, None if it was none."""
    return Digest(path.name) if is_hex_digest(path.name) else None


def record_in(path: Path) -> StepKey | None:
    """Return the key of the record that a thing in the trash was, None if it was none."""
    match = _RECORD.fullmatch(path.name)
    return StepKey(match[1]) if match is not None else None


def remove(path: Path) -> bool:
    """Remove a file, link or folder, without following links in it; False if that failed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        _log.warning("cannot remove %s: %s; the next collection tries again", path, error)
        return False
    return True
