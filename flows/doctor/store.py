"""The store's health: can it be opened and written to, are samples intact, what is left over."""

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from artifacts.disk.files import free_bytes
from artifacts.disk.sizes import size_text
from artifacts.errors import StoreError
from artifacts.layout import FOLDERS, open_to_others
from artifacts.records import Record
from artifacts.store import Store
from artifacts.work import is_aside
from flows.doctor.finding import Finding, State
from flows.text import name_of

SAMPLE: Final = 24
SAMPLE_BYTES: Final = 512_000_000
LITTLE_ROOM: Final = 10_000_000_000
NO_ROOM: Final = 500_000_000
_STALE_SECONDS: Final = 120.0  # four times the time after which a lease's holder counts as dead
_DRAFT_SECONDS: Final = 3600.0
_WORK_SECONDS: Final = 86400.0


def check_store(root: Path) -> Iterator[Finding]:
    """Check the store at ``root``, which need not exist; nothing in it is moved or mended."""
    root = root.expanduser().absolute()
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    yield disk(place)
    if not (root / "store.json").exists() and (not root.exists() or not any(root.iterdir())):
        yield no_store(root, place)
        return
    store = Store.open(root, read_only=True)
    yield Finding("store", State.OK, f"{store.root} opens, format {store.info.format}")
    yield access(store)
    yield writable(store)
    yield sample(store)
    yield from lying_about(store)


def disk(place: Path) -> Finding:
    """Say how much room is left; ``paraknow transfer --plan`` says what a run needs."""
    free = free_bytes(place)
    said = f"{size_text(free)} free at {place}"
    advice = "make room (`paraknow store gc`), or choose another disk with PARAKNOW_STORE"
    if free < NO_ROOM:
        return Finding("disk", State.FAILED, said, advice)
    if free < LITTLE_ROOM:
        return Finding("disk", State.WARNING, said, advice)
    return Finding("disk", State.OK, said)


def no_store(root: Path, place: Path) -> Finding:
    """Say whether one could be made."""
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding("store", State.OK, f"none at {root} yet; the first run makes it")
    advice = "choose another folder with PARAKNOW_STORE"
    return Finding("store", State.FAILED, f"none at {root}, and {place} is not writable", advice)


def access(store: Store) -> Finding:
    """Say who else may write in the store: whoever may can have wrong results taken for right."""
    wide = {name: said for name in ("", *FOLDERS) if "write" in (said := _access(store, name))}
    wide |= {
        f"{name}/{shard.name}": said
        for name in ("objects", "records")
        for shard in (store.root / name).iterdir()
        if shard.is_dir() and "write" in (said := open_to_others(shard))
    }
    private = not open_to_others(store.root)
    if wide and not private:
        place, said = next(iter(wide.items()))
        what = f"{said} in {store.root / place}"
        advice = (
            "whoever may write there can put wrong results into it: share it only with people whom "
            f"you would let run programs as you, or make it private: chmod 700 {store.root}"
        )
        kind = "it is shared" if store.info.shared else "it is not private"
        return Finding("store access", State.WARNING, f"{kind}: {what}", advice)
    if private:
        return Finding("store access", State.OK, "only you may read and write it")
    advice = f"to keep it to yourself: chmod 700 {store.root}"
    return Finding("store access", State.OK, "only you may write it, others may read it", advice)


def _access(store: Store, name: str) -> str:
    folder = store.root / name
    return open_to_others(folder) if folder.is_dir() else ""


def writable(store: Store) -> Finding:
    """Write a draft and take it away again."""
    try:
        Store(store.root, store.info, read_only=False).check_writable()
    except StoreError as error:
        said = f"results can be read and none can be stored: {error}"
        return Finding("store writable", State.FAILED, said, "mend that before a run")
    return Finding("store writable", State.OK, "new results can be stored")


def sample(store: Store) -> Finding:
    """Read all files of some results, which are others each time."""
    keys = list(store.ledger.all_keys())
    chosen = secrets.SystemRandom().sample(keys, min(SAMPLE, len(keys)))
    broken, room = [], SAMPLE_BYTES
    for key in chosen:
        record = store.lookup_record(key)
        if record is None:
            broken.append(f"record {key[:12]}")
            continue
        again = record.size <= room
        room -= record.size if again else 0
        if not _is_whole(store, record, again=again):
            broken.append(name_of(record))
    if broken:
        said = f"{len(broken)} of {len(chosen)} are damaged or incomplete: {', '.join(broken[:5])}"
        return Finding("store sample", State.FAILED, said, "paraknow store verify --repair")
    said = f"{len(chosen)} of {len(keys)} results looked at, {size_text(SAMPLE_BYTES - room)} read"
    return Finding("store sample", State.OK, said)


def _is_whole(store: Store, record: Record, *, again: bool) -> bool:
    for digest, size in record.objects().items():
        path = store.objects.path(digest)
        if again and not store.objects.is_intact(digest, size, again=True):
            return False
        if not again and not (path.is_file() and path.stat().st_size == size):
            return False
    return True


def lying_about(store: Store) -> Iterator[Finding]:
    """Report quarantine, leases nobody renews, unfinished work, what was moved aside, drafts."""
    root, now = store.root, time.time()
    if damaged := len(_older(root / "quarantine", now, 0)):
        said = f"{damaged} damaged files were moved there"
        advice = "look after the disk (its SMART values, its file system); gc removes them later"
        yield Finding("quarantine", State.WARNING, said, advice)
    leases = [p for p in _older(root / "leases", now, _STALE_SECONDS) if p.suffix == ".lease"]
    if leases:
        said = f"{len(leases)} of runs that were killed or stopped"
        yield Finding("leases", State.OK, said, "the next run of the same step takes over")
    work = [run for key in _older(root / "work", now, 0) for run in _older(key, now, _WORK_SECONDS)]
    if aside := [path for path in work if is_aside(path)]:
        said = f"partial results of {len(aside)} steps could not be gone on from: moved aside"
        yield Finding("moved aside", State.OK, said, "gc removes them after 14 days")
    if unfinished := len(work) - len(aside):
        said = f"{unfinished} unfinished steps, untouched for a day"
        advice = "run the same command again to go on; gc removes them after 14 days"
        yield Finding("work", State.OK, said, advice)
    drafts = [*_older(root / "tmp", now, _DRAFT_SECONDS), *_older(root / "trash", now, 0)]
    if drafts:
        said = f"{len(drafts)} files of interrupted publishes or collections"
        yield Finding("drafts", State.OK, said, "paraknow store gc --apply")


def _older(folder: Path, now: float, seconds: float) -> list[Path]:
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            changed = path.lstat().st_mtime
        except FileNotFoundError:
            continue
        if now - changed >= seconds:
            found.append(path)
    return found
