"""What else takes room in a store: drafts, abandoned work, and what is derived."""

import os
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from artifacts.care.pins import keys_in_use
from artifacts.care.trash import Trash, object_in, record_in, remove
from artifacts.names import Digest
from artifacts.store import Store

DAY: Final = 86400.0
DRAFT_SECONDS: Final = 3600.0
"""A younger draft may belong to a publisher at work, whatever grace was asked for."""
WORK_SECONDS: Final = 14 * DAY
QUARANTINE_SECONDS: Final = 30 * DAY
STAMP_SECONDS: Final = 90 * DAY


@dataclass(frozen=True)
class Leftover:
    """One thing that may go, whatever results are kept.

    Attributes:
        kind: the store's folder that it is in.
        path: of the file or folder.
        bytes: that it takes.
    """

    kind: str
    path: Path
    bytes: int


def leftovers(store: Store, *, now: float, grace: float, trees: Set[Digest]) -> list[Leftover]:
    """List what may go.

    Drafts after an hour; links after the grace period; work and leases after 14 days, in which a
    killed run can be taken up again; quarantine after 30 days; remembered digests after 90, when
    a file is hashed again; what an earlier collection left in the trash; pins of dead runs. Work on
    a key that a live run uses stays, however old it is.

    Args:
        store: to look through.
        now: seconds since the epoch by the store's own clock.
        grace: seconds for which a thing is left alone after its last change.
        trees: the outputs whose views stay.

    Raises:
        StoreIOError: if a folder cannot be read.
    """
    root = store.root
    views = (path for path in _listed(root / "views") if path.name not in trees)
    leases = (path for path in _listed(root / "leases") if path.suffix == ".lease")
    used, dead = keys_in_use(store, now)
    unused = (key for key in _listed(root / "work") if key.name not in used)
    groups: tuple[tuple[str, Iterable[Path], float], ...] = (
        ("tmp", _listed(root / "tmp"), DRAFT_SECONDS),
        ("views", views, grace),
        ("work", (run for key in unused for run in _listed(key)), WORK_SECONDS),
        ("leases", leases, WORK_SECONDS),
        ("quarantine", _listed(root / "quarantine"), QUARANTINE_SECONDS),
        ("stat", _files(root / "stat"), STAMP_SECONDS),
    )
    found = [
        Leftover(kind, path, size)
        for kind, paths, age in groups
        for path in paths
        for changed, size in [measure(path)]
        if now - changed >= max(age, grace)
    ]
    found += [Leftover("pins", path, measure(path)[1]) for path in dead]
    trashed = (p for p in _listed(root / "trash") if object_in(p) is None and record_in(p) is None)
    return found + [Leftover("trash", path, measure(path)[1]) for path in trashed]


def sweep(trash: Trash, found: Iterable[Leftover]) -> int:
    """Remove leftovers; return the bytes that were freed.

    Work goes by way of the trash: its run, if it lives after all, then finds its folder gone and
    fails, instead of publishing half of it.
    """
    freed = 0
    for leftover in found:
        if leftover.kind == "work":
            gone = trash.put_other(leftover.path)
            if gone and not any(leftover.path.parent.iterdir()):
                remove(leftover.path.parent)
        else:
            gone = remove(leftover.path)
        freed += leftover.bytes if gone else 0
    return freed


def measure(path: Path) -> tuple[float, int]:
    """Return the last change of anything in a file or folder, and the bytes it takes.

    A thing that vanishes meanwhile counts as changed in the far future, so that it is left alone.
    """
    try:
        status = path.lstat()
        changed, size = max(status.st_mtime, status.st_ctime), 0
        if path.is_symlink() or not path.is_dir():
            return changed, status.st_size
        for folder, folders, names in os.walk(path):
            for name in (*folders, *names):
                inner = Path(folder, name).lstat()
                changed = max(changed, inner.st_mtime, inner.st_ctime)
                size += inner.st_size if name in names else 0
    except FileNotFoundError:
        return float("inf"), 0
    return changed, size


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _files(folder: Path) -> Iterator[Path]:
    for place, _folders, names in os.walk(folder):
        yield from (Path(place, name) for name in sorted(names))
