"""Whether a store can be written to, and has room."""

import os
from pathlib import Path

from artifacts.disk.files import free_bytes, new_file, reading, writing
from artifacts.disk.sizes import unequal
from artifacts.errors import StoreFullError


def store_free_bytes(root: Path) -> int:
    """Return the bytes that may still be written on the file system of a store's folder.

    Raises:
        StoreIOError: if the file system does not say.
    """
    with reading(root):
        return free_bytes(root)


def check_room(root: Path, need_bytes: int) -> None:
    """Write a byte below a store's folder, and compare what is free with what is needed.

    The byte is written because permissions alone say too little: a quota, a read-only mount or a
    full table of inodes is seen only by a write.

    Raises:
        StoreReadOnlyError: if nothing can be written there.
        StoreFullError: if less than ``need_bytes`` are free.
        StoreIOError: if writing fails in any other way.
    """
    with writing(root), new_file(root / "tmp") as (descriptor, _path):
        os.write(descriptor, b"?")
    free = store_free_bytes(root)
    if free < need_bytes:
        need, there = unequal(need_bytes, free)
        raise StoreFullError(
            f"the store {root} has {there} free, and {need} are needed. "
            "Make room, or choose another store with PARAKNOW_STORE"
        )
