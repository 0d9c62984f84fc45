"""Files that are complete or absent, also after a power cut: flush, rename, flush the folder.

For everything outside the store. The store's own files are written by ``artifacts``, which knows
nothing of this package.
"""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Sync a file's bytes, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and its parents if need be, so that they are there after a power cut."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        flush(folder.parent)


def settle(written: Path, final: Path) -> None:
    """Give a finished draft its final name in the same folder, durably; replaces what is there."""
    # In this order: after a power cut, the final name must not lead to a file without its bytes.
    flush(written)
    written.replace(final)
    flush(final.parent)  # a rename is on the disk only when its folder is synced
