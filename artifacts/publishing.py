"""Publishing: objects first, the record last, each name created once; the first writer wins."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from artifacts.disk.files import reading
from artifacts.errors import CorruptObjectError, NameRefusedError, StoreIOError
from artifacts.ledger import Current, Ledger
from artifacts.names import StepKey, check_file_names
from artifacts.objects import Objects
from artifacts.records import Record, tree_bytes

FileContent = Path | bytes
_ATTEMPTS: Final = 100


def publish(
    objects: Objects,
    ledger: Ledger,
    key: StepKey,
    make: Callable[[], Record],
    replaces: Record | None,
) -> Record:
    """Store the files of a record and then the record, or adopt the one that was faster.

    Args:
        objects: of the store.
        ledger: of the store.
        key: of the record.
        make: stores the files and returns the record over them, whatever its generation, such as
            ``store_files``; called again if they are gone.
        replaces: a record that does not count as a winner.

    Returns:
        The record that counts, durable with all its objects.

    Raises:
        OSError: if writing failed; nothing is half visible, and running again heals.
        StoreIOError: if other writers kept taking the name, and what ``make`` raises.
    """
    record: Record | None = None
    for _attempt in range(_ATTEMPTS):
        # One reading decides both whether to adopt and which name comes next: with two, a winner
        # that appeared in between was once passed over.
        found = ledger.current(key)
        # Also for our own record once it is written, because a collection may have moved an object
        # that we found in place before it could see that record. Now it either has seen the record
        # and puts the object back, or we see here that the object is gone and store it again.
        if winner := _winner(objects, ledger, found, replaces, ours=record):
            return winner
        if record is None or not has_objects(objects, record):
            record = make()
        if found is None or not _same(found.record, record) or _is_replaced(found, replaces):
            record = replace(record, generation=found.generation + 1 if found else 0)
            ledger.append(record)
    raise StoreIOError(f"cannot publish {key}: other writers kept taking its name")


def store_files(objects: Objects, draft: Record, sources: Mapping[str, FileContent]) -> Record:
    """Store the files of a draft record and their tree, and return the record over them.

    Args:
        objects: of the store.
        draft: the record but for its files and tree.
        sources: name -> path or bytes.

    Raises:
        CorruptObjectError: if the draft says which digests they have, and they do not.
        OSError: if writing failed.
        StoreIOError: if a source could not be read.
    """
    files = {
        name: objects.put_bytes(source) if isinstance(source, bytes) else objects.put_file(source)
        for name, source in sorted(sources.items())
    }
    for name, entry in draft.files.items():
        if files.get(name) != entry:
            raise CorruptObjectError(
                f"file {name!r} of {draft.step} {draft.key[:12]} does not have the digest that its "
                "record gives; get an undamaged copy"
            )
    return replace(draft, files=files, tree=objects.put_bytes(tree_bytes(files)).digest)


def _is_replaced(found: Current, replaces: Record | None) -> bool:
    return replaces is not None and not is_newer(found.record, replaces)


def _same(found: Record | None, ours: Record | None) -> bool:
    return found is not None and ours is not None and found.encode() == ours.encode()


def has_objects(objects: Objects, record: Record) -> bool:
    """Tell whether all objects of a record are there and intact."""
    return all(objects.is_intact(digest, size) for digest, size in record.objects().items())


def is_newer(found: Record | None, replaces: Record | None) -> bool:
    """Tell whether a record is there that is not the one to be replaced, nor an older one."""
    if found is None or replaces is None:
        return found is not None
    return found.generation > replaces.generation


def sources_of(files: Path | Mapping[str, FileContent]) -> dict[str, FileContent]:
    """List what is to be published under which name.

    Raises:
        NameRefusedError: for a name that is not allowed, a link, or a folder that is none.
        StoreIOError: if a folder cannot be read.
    """
    sources = _walk(files) if isinstance(files, Path) else dict(files)
    check_file_names(sources)
    return sources


def _walk(root: Path) -> dict[str, FileContent]:
    with reading(root):
        if not root.is_dir():
            raise NameRefusedError(f"{root} is no folder; give a folder or name -> path")
        found: dict[str, FileContent] = {}
        for folder, folders, names in os.walk(root, onerror=_raise):
            for name in (*folders, *names):
                path = Path(folder, name)
                if path.is_symlink():
                    raise NameRefusedError(f"cannot publish {path}: it is a link")
                if name in names:
                    found[path.relative_to(root).as_posix()] = path
        return found


def _winner(
    objects: Objects,
    ledger: Ledger,
    found: Current | None,
    replaces: Record | None,
    *,
    ours: Record | None,
) -> Record | None:
    """Return the record that a publisher has to adopt, made durable, if there is one."""
    if found is None or found.record is None or not has_objects(objects, found.record):
        return None
    if _is_replaced(found, replaces):
        return None
    if not _same(found.record, ours):
        ledger.make_durable(found.record.key)
    return found.record


def _raise(error: OSError) -> None:
    raise error
