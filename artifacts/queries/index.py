"""Summaries of all records of a store, most of them from an index that may be wrong or missing.

The index is a cache in the user's own folder, one SQLite file for each store and host. What it says
of a record counts only while that record's file has the same name, size, inode, mtime and ctime as
when it was summarised, and while the row has its check digest. Every other record is read. So it
can be deleted, damaged or out of date, and all that is lost is time. docs/store.md says why it does
not lie in the store and why it is never changed in place.
"""

import contextlib
import os
import platform
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.disk.files import read_error, temporary_path
from artifacts.disk.locations import user_cache_folder
from artifacts.disk.stamps import Stamp
from artifacts.ledger import LastName
from artifacts.queries.summary import Summary
from artifacts.store import Store

INDEX_FORMAT: Final = 1
"""Raised when a summary holds something else than before; an index of another format is unused."""

WORTH_WRITING: Final = 200
"""Reading so many records takes as long as writing the index of a middling store."""

_SHARE: Final = 100
_DRAFT_SECONDS: Final = 3600.0
_TABLE: Final = (
    "CREATE TABLE records (name TEXT PRIMARY KEY, stamp TEXT NOT NULL, summary TEXT NOT NULL,"
    " checked TEXT NOT NULL) WITHOUT ROWID"
)


class IndexRow(NamedTuple):
    """What the index holds of one record.

    Attributes:
        name: of the record's file.
        stamp: of that file before it was read.
        summary: as JSON.
        checked: digest of all that.
    """

    name: str
    stamp: str
    summary: str
    checked: str

    @classmethod
    def of(cls, name: str, stamp: str, summary: str) -> "IndexRow":
        """Make a row and its check digest."""
        return cls(name, stamp, summary, _check(name, stamp, summary))


def summaries(store: Store) -> Iterator[Summary]:
    """Iterate over the summaries of all sound records of a store, in key order.

    They are what reading every record would give at this moment.

    Raises:
        StoreIOError: if a folder, or a record that has to be read, could not be read.
        StoreFormatError: if such a record was written by a newer version.
    """
    path = index_path(store)
    known = {row.name: row for row in read_index(path)}
    rows: list[IndexRow] = []
    anew = 0
    for last in store.ledger.last_names():
        try:
            status = last.entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue  # collected this moment
        except OSError as error:
            raise read_error(error, Path(last.entry.path)) from error
        stamp, row = _stamp_text(status), known.get(last.entry.name)
        if row is None or row.stamp != stamp or row != IndexRow.of(*row[:3]):
            row = _read(store, last, stamp, status)
            anew += bool(row.stamp)
        if row.stamp:
            rows.append(row)
        if row.summary:
            yield Summary.decode(row.summary, status.st_mtime)
    few = max(WORTH_WRITING, len(rows) // _SHARE)
    if anew > few or len(known) > 2 * len(rows) + few:
        write_index(path, rows)


def index_path(store: Store) -> Path:
    """Return where a store's index lies, whether or not there is one."""
    place = digest_bytes(canonical_bytes([platform.node(), str(store.root)]))
    return user_cache_folder() / "index" / f"{store.info.id}-{place[:16]}.sqlite3"


def read_index(path: Path) -> list[IndexRow]:
    """Read an index; none, or one that is damaged or of another format, is empty.

    A row may still be wrong: whoever uses it compares its check digest.
    """
    if not Path(path).exists():
        return []
    import sqlite3

    try:
        # It is never changed in place, so no lock is needed, and none is asked for.
        opened = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        with contextlib.closing(opened):
            if opened.execute("PRAGMA user_version").fetchone() != (INDEX_FORMAT,):
                return []
            found = opened.execute("SELECT name, stamp, summary, checked FROM records")
            return [IndexRow._make(row) for row in found]
    except (OSError, sqlite3.Error):
        return []


def write_index(path: Path, rows: Iterable[IndexRow]) -> None:
    """Write an index anew, complete or not at all; a failure costs only time.

    Of two processes that do so at once the later one's stays; each is right by itself.
    """
    import sqlite3

    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _clear_drafts(folder)
        draft = temporary_path(folder).with_suffix(".draft")
        try:
            with contextlib.closing(sqlite3.connect(draft)) as made:
                # No journal: a draft that is not finished is never read.
                made.execute("PRAGMA journal_mode = OFF")
                made.execute("PRAGMA synchronous = OFF")
                made.execute(f"PRAGMA user_version = {INDEX_FORMAT}")
                made.execute(_TABLE)
                made.executemany("INSERT INTO records VALUES (?, ?, ?, ?)", rows)
                made.commit()
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, sqlite3.Error):
        return


def _read(store: Store, last: LastName, stamp: str, status: os.stat_result) -> IndexRow:
    """Read a record; the row has a stamp only if it may be kept, and no summary if it is damaged.

    The stamp is older than what was read, and its file lay still by then: if it is the same later,
    the file is the same.
    """
    found = store.ledger.current(last.key)
    if found is None or found.record is None:
        return IndexRow("", "", "", "")
    settled = stat.S_ISREG(status.st_mode) and Stamp.of(status).is_settled()
    keep = settled and found.generation == last.generation
    return IndexRow.of(last.entry.name, stamp if keep else "", Summary.of(found.record).encode())


def _stamp_text(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _check(name: str, stamp: str, summary: str) -> str:
    return digest_bytes(f"{name}\n{stamp}\n{summary}".encode())


def _clear_drafts(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for draft in folder.glob("*.draft*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _DRAFT_SECONDS:
                draft.unlink()
