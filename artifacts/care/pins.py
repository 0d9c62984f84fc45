"""What garbage collection must keep: named pins, and what runs that are under way read.

A named pin is ``pins/<name>.json``. A run's is ``pins/live/<random>``, held open with an ``flock``
for as long as the run lives: the kernel drops it with the process, however that ends. Where the
lock tells nothing, because the run is on another machine, it counts as live for a week.
"""

import contextlib
import fcntl
import logging
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from artifacts.canonical import canonical_bytes, parse
from artifacts.errors import CanonicalError, UnknownKeyError
from artifacts.files import (
    ensure_folder,
    new_file,
    open_regular,
    read_small,
    reading,
    replace_file,
    sync_folder,
    write_all,
    writing,
)
from artifacts.names import StepKey, check_name, is_hex_digest
from artifacts.store import Store

OTHER_HOST_SECONDS: Final = 7 * 86400.0
_LIMIT: Final = 1024 * 1024
_log = logging.getLogger(__name__)


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


@contextlib.contextmanager
def in_use(store: Store, keys: Iterable[str]) -> Iterator[None]:
    """Keep some results, and what they were made from, while the body runs.

    Look the keys up *after* entering: what was collected before is then a clean miss, and what was
    not stays. A failure to write the pin is only logged, as the body can do without.
    """
    with contextlib.ExitStack() as stack:
        if not store.read_only:
            try:
                stack.enter_context(_live_pin(store, sorted(set(keys))))
            except OSError as error:
                _log.warning("cannot mark results as in use: %s; carrying on without", error)
        yield


@contextlib.contextmanager
def _live_pin(store: Store, keys: list[str]) -> Iterator[None]:
    folder = store.root / "pins" / "live"
    folder.mkdir(parents=True, exist_ok=True)
    data = canonical_bytes({"format": 1, "keys": list(keys), "kernel": _kernel()})
    with new_file(store.root / "tmp") as (descriptor, draft):
        # Locked before it has its name, so that no collection can see it without its lock.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write_all(descriptor, data)
        path = folder / draft.name
        draft.rename(path)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def keys_in_use(store: Store, now: float) -> tuple[set[StepKey], list[Path]]:
    """Return the keys that live runs read, and the pins of runs that are over.

    Args:
        store: whose pins.
        now: seconds since the epoch by the store's own clock.

    Raises:
        StoreIOError: if a pin cannot be read.
    """
    live: set[StepKey] = set()
    dead: list[Path] = []
    folder = store.root / "pins" / "live"
    with reading(folder):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            try:
                alive, data = _look_at(path, now)
            except FileNotFoundError:
                continue  # its run ended this moment
            if alive:
                live.update(_keys(data, "keys"))
            else:
                dead.append(path)
    return live, dead


def _look_at(path: Path, now: float) -> tuple[bool, bytes]:
    """Tell whether the run behind a pin lives, and return the pin's bytes."""
    descriptor = open_regular(path)
    if descriptor is None:
        return False, b""
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LIMIT)
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True, data
        here = f'"kernel":"{_kernel()}"'.encode() in data
        return not here and now - os.fstat(descriptor).st_mtime < OTHER_HOST_SECONDS, data


def _kernel() -> str:
    """Name the running kernel: within one, an flock is exact."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return platform.node()


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
