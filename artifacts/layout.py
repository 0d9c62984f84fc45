"""The folders of a store, its format file, and opening or creating one."""

import contextlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from artifacts.canonical import Json, canonical_bytes, parse_any
from artifacts.disk.files import (
    ensure_folder,
    read_small,
    reading,
    retrying,
    sync_folder,
    write_new,
    writing,
)
from artifacts.errors import CanonicalError, StoreFormatError

STORE_FORMAT: Final = 1
HASH_NAME: Final = "blake3"
PRIVATE_MODE: Final = 0o700
SHARED_MODE: Final = 0o2770  # what is made in it belongs to its group
FOLDERS: Final = (
    "objects",
    "records",
    "views",
    "work",
    "stat",
    "leases",
    "quarantine",
    "tmp",
    "pins",
    "trash",  # there from the start: on a full disk a collection could not make it
)
RESERVED: Final = ("provenance", "results")
_SHARDED: Final = ("objects", "records")
_MAY_EXIST: Final = frozenset({*FOLDERS, *RESERVED, "lost+found"})


@dataclass(frozen=True)
class StoreInfo:
    """What store.json says.

    Attributes:
        id: random, names this store.
        format: of layout and publish protocol.
        shared: whether it was created for several users, who then must trust one another.
    """

    id: str
    format: int = STORE_FORMAT
    shared: bool = False


def open_layout(root: Path, *, read_only: bool, shared: bool = False) -> StoreInfo:
    """Open the store at ``root``, creating it in a missing or empty folder.

    A new one is private to its user, or, if ``shared``, open to its folder's group. One that is
    there keeps the modes that it has.

    Raises:
        StoreFormatError: if the folder is no store, is damaged, or is of a newer format.
        StoreIOError: if it cannot be read, or cannot be created.
    """
    with reading(root):
        info = _read_info(root)
    if info is None:
        if read_only:
            raise StoreFormatError(f"there is no store at {root}; open it writable to create one")
        with writing(root):
            info = _create(root, shared=shared)
    for name in FOLDERS:
        _check_real_folder(root / name, make=not read_only)
    return info


def _read_info(root: Path) -> StoreInfo | None:
    path = root / "store.json"
    read = retrying(lambda: (read_small(path, 64 * 1024),))
    if read is None:
        return None
    try:
        value = _object(parse_any(read[0] or b""))
        version, hash_name, identity = value["format"], value["hash"], value["id"]
    except (CanonicalError, TypeError, KeyError) as error:
        raise StoreFormatError(
            f"{path} is damaged ({error}). Records and objects have their own checks: delete this "
            "one file and it is written anew"
        ) from error
    if version != STORE_FORMAT or hash_name != HASH_NAME:
        raise StoreFormatError(
            f"the store at {root} has format {version} with {hash_name}; this version of paraknow "
            f"reads format {STORE_FORMAT} with {HASH_NAME}. Upgrade paraknow, or choose another "
            "store with PARAKNOW_STORE"
        )
    return StoreInfo(str(identity), STORE_FORMAT, value.get("shared") is True)


def _object(value: Json) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise TypeError(f"it holds a {type(value).__name__}, not an object")
    return value


def _create(root: Path, *, shared: bool) -> StoreInfo:
    mode = SHARED_MODE if shared else PRIVATE_MODE
    root.mkdir(mode=PRIVATE_MODE, parents=True, exist_ok=True)
    _refuse_foreign(root)
    _set_mode(root, mode)
    for name in FOLDERS:
        ensure_folder(root / name)
        _set_mode(root / name, mode)
    # All shards at once and store.json last: a store that opens has every folder durable, so that
    # publishing has one folder to sync and not three.
    for name in _SHARDED:
        for number in range(256):
            (root / name / f"{number:02x}").mkdir(exist_ok=True)
            if shared:  # a private root is enough for what is below it
                _set_mode(root / name / f"{number:02x}", mode)
        sync_folder(root / name)
    info: dict[str, object] = {"format": STORE_FORMAT, "hash": HASH_NAME}
    info |= {"id": secrets.token_hex(16), **({"shared": True} if shared else {})}
    write_new(root / "store.json", canonical_bytes(info), root / "tmp")
    made = _read_info(root)
    if made is None:
        raise StoreFormatError(f"{root / 'store.json'} vanished while the store was created")
    return made


def _set_mode(folder: Path, mode: int) -> None:
    """Set a new folder's mode, whatever the umask; another user's folder stays as it is."""
    with contextlib.suppress(PermissionError):
        folder.chmod(mode)


def open_to_others(folder: Path) -> str:
    """Say who besides its user may write in a folder, or read it; "" if nobody may."""
    mode = folder.stat().st_mode
    if mode & stat.S_IWOTH:
        return "everybody may write"
    if mode & stat.S_IWGRP:
        return "its group may write"
    return "others may read" if mode & (stat.S_IRWXG | stat.S_IRWXO) else ""


def _refuse_foreign(root: Path) -> None:
    foreign = sorted({path.name for path in root.iterdir()} - _MAY_EXIST - {"store.json"})
    if foreign:
        raise StoreFormatError(
            f"{root} is no store, and it is not empty (it holds {foreign[0]!r}). Choose an empty "
            "or new folder with PARAKNOW_STORE"
        )


def _check_real_folder(path: Path, *, make: bool) -> None:
    """Refuse a link in a folder's place; make a folder that a copying tool left out as empty."""
    with reading(path):
        status = retrying(lambda: os.lstat(path))
    if status is None:
        if make:
            with writing(path):
                ensure_folder(path)
    elif not stat.S_ISDIR(status.st_mode):
        raise StoreFormatError(
            f"{path} is no plain folder: the store is damaged. Restore it, or choose another store "
            "with PARAKNOW_STORE"
        )
