"""What garbage collection must keep: named pins, and what runs that are under way use.

A named pin is ``pins/<name>.json``. What a run uses stands in ``pins/live/<random>``, which is held
open with an ``flock`` for as long as the run lives: the kernel drops it with the process, however
that ends. Where the lock cannot be seen, because the run is on another machine, the file counts for
a week after its last line.
"""

import contextlib
from pathlib import Path
from typing import Final

from artifacts.canonical import canonical_bytes, parse
from artifacts.disk.files import (
    ensure_folder,
    read_small,
    reading,
    replace_file,
    sync_folder,
    writing,
)
from artifacts.errors import CanonicalError, UnknownKeyError
from artifacts.live import read_live
from artifacts.names import StepKey, check_name, is_hex_digest
from artifacts.store import Store

_LIMIT: Final = 1024 * 1024


def pin(store: Store, name: str, key: StepKey) -> None:
    """Keep a result, and all that it was made from, until ``unpin``; an equal name is re-pointed.

    Raises:
        NameRefusedError: unless the name is a plain one.
        StoreReadOnlyError, StoreFullError, StoreIOError: if it could not be written.
    """
    check_name(name, "pin")
    store.check_writable()
    with writing(store.root):
        ensure_folder(store.root / "pins")
        data = canonical_bytes({"format": 1, "key": key})
        replace_file(_named(store, name), data, store.root / "tmp")


def unpin(store: Store, name: str) -> StepKey:
    """Take a pin away; the result stays until a collection finds it unwanted.

    Returns:
        The key that was pinned.

    Raises:
        UnknownKeyError: if there is no such pin.
    """
    check_name(name, "pin")
    found = pins(store)
    if name not in found:
        known = ", ".join(sorted(found)) or "none"
        raise UnknownKeyError(f"there is no pin {name!r} in {store.root}; there are: {known}")
    store.check_writable()
    with writing(store.root):
        _named(store, name).unlink(missing_ok=True)
        sync_folder(store.root / "pins")
    return found[name]


def pins(store: Store) -> dict[str, StepKey]:
    """Return name -> key of every named pin.

    Raises:
        StoreIOError: if one cannot be read; a collection must not take it for absent.
        UnknownKeyError: if one is damaged.
    """
    folder, found = store.root / "pins", {}
    with reading(folder):
        names = sorted(folder.glob("*.json")) if folder.is_dir() else []
        for path in names:
            keys = _keys(read_small(path, _LIMIT), "key")
            if len(keys) != 1:
                raise UnknownKeyError(
                    f"the pin {path} is damaged. Set it again with `paraknow store pin KEY "
                    f"{path.stem}`, or delete the file"
                )
            found[path.stem] = keys[0]
    return found


def keys_in_use(store: Store, now: float) -> tuple[set[StepKey], list[Path]]:
    """Return the keys that live runs use, and the pins of runs that are over.

    Args:
        store: whose pins.
        now: seconds since the epoch by the store's own clock.

    Raises:
        StoreIOError: if a pin cannot be read.
    """
    return read_live(store.root, now)


def _keys(data: bytes | None, field: str) -> list[StepKey]:
    with contextlib.suppress(CanonicalError):
        match parse(data or b""):
            case {**fields}:
                value = fields.get(field)
                said = value if isinstance(value, list) else [value]
                return [StepKey(str(key)) for key in said if is_hex_digest(key)]
    return []


def _named(store: Store, name: str) -> Path:
    return store.root / "pins" / f"{name}.json"
