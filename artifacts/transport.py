"""Results in and out of a store: an exported folder of real files, and back, digests checked."""

import contextlib
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from artifacts.disk.digests import hash_file
from artifacts.disk.files import read_small, reading, temporary_path, writing
from artifacts.errors import StoreIOError, UnknownKeyError
from artifacts.names import StepKey, is_hex_digest
from artifacts.publishing import FileContent
from artifacts.queries.lineage import Lineage, inputs_first
from artifacts.records import MAX_RECORD_BYTES, Record, decode_record
from artifacts.store import Store

RECORD_FOLDER: Final = ".paraknow"
"""In an exported folder, where the record is; no file of a result can have such a name."""


@dataclass(frozen=True)
class Imported:
    """What became of one result.

    Attributes:
        record: that counts in this store now.
        how: "new", "present" for the same result, or "kept" if this store has another one under
            the same key, which stays.
    """

    record: Record
    how: str


def export(store: Store, record: Record, target: Path) -> None:
    """Copy a result's files into a new folder as ordinary files, together with the record.

    Args:
        store: that has the result.
        record: of the result.
        target: must not exist, or be empty; it is complete when it appears.

    Raises:
        StoreIOError: if the target is in the way, an object is gone, or reading or writing fails.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreIOError(f"{target} exists and is no empty folder; give a new one to export to")
    target = target.absolute()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = temporary_path(target.parent)
        try:
            _lay_out(store, record, draft)
            with contextlib.suppress(FileNotFoundError):
                target.rmdir()
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _lay_out(store: Store, record: Record, folder: Path) -> None:
    for name, entry in record.files.items():
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(store.file_path(record, name), copy)
        if hash_file(copy) != entry.digest:
            raise StoreIOError(
                f"the copy of {name!r} does not have its digest: run `paraknow store verify`"
            )
    (folder / RECORD_FOLDER).mkdir(parents=True)
    (folder / RECORD_FOLDER / f"{record.key}.json").write_bytes(
        # Which generation it was in this store means nothing elsewhere.
        replace(record, generation=0).encode()
    )


def import_results(
    store: Store, source: Path, *, keys: Iterable[StepKey] | None = None
) -> list[Imported]:
    """Take over results from an exported folder or from another store; every digest is checked.

    Args:
        store: to publish in.
        source: an exported folder, or a store's folder (opened read-only).
        keys: which results of a store, each with all it was made from; None takes all.

    Returns:
        What became of each, in the order of publishing: inputs first.

    Raises:
        UnknownKeyError: if the source is neither, or has not the keys.
        CorruptRecordError, CorruptObjectError: if something in the source is damaged.
        StoreError: as ``Store.publish``.
    """
    if (source / "store.json").exists():
        return _from_store(store, Store.open(source, read_only=True), keys)
    record = _exported_record(source)
    if keys is not None and record.key not in set(keys):
        raise UnknownKeyError(f"{source} is an export of {record.key}, not of what was asked for")
    return [_take(store, record, {name: source / name for name in record.files})]


def _from_store(store: Store, other: Store, keys: Iterable[StepKey] | None) -> list[Imported]:
    lineage = Lineage.of(other)
    wanted = set(lineage.records) if keys is None else lineage.upstream(keys)
    taken = []
    for key in inputs_first(lineage, wanted):
        record = lineage.records[key]
        sources = {name: other.file_path(record, name) for name in record.files}
        taken.append(_take(store, record, sources))
    return taken


def _take(store: Store, record: Record, sources: Mapping[str, Path]) -> Imported:
    found = store.lookup(record.key)
    if found is None:
        files: dict[str, FileContent] = dict(sources)
        found = store.publish(
            record.payload,
            files,
            facts=record.facts,
            provenance=record.provenance,
            expected=record.files,
        )
        return Imported(found, "new" if found.tree == record.tree else "kept")
    return Imported(found, "present" if found.tree == record.tree else "kept")


def _exported_record(folder: Path) -> Record:
    place = folder / RECORD_FOLDER
    with reading(place):
        names = [path.name for path in place.iterdir()] if place.is_dir() else []
    if len(names) != 1 or not is_hex_digest(names[0].removesuffix(".json")):
        raise UnknownKeyError(
            f"{folder} is neither a store nor an exported result (it has no "
            f"{RECORD_FOLDER}/<key>.json); `paraknow store export KEY DIR` makes one"
        )
    with reading(place):
        data = read_small(place / names[0], MAX_RECORD_BYTES)
    return decode_record(data, key=StepKey(names[0].removesuffix(".json")), generation=0)
