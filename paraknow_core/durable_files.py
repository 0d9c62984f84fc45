"""Files that are complete or absent, also after a power cut: flush, rename, flush the folder.

For everything outside the store. The store's own files are written by ``artifacts``, which knows
nothing of this package.
"""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Write a file's bytes, or a folder's names, through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if need be, each one's name durable."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in made:
        flush(folder.parent)


def settle(written: Path, final: Path) -> None:
    """Give a finished draft its final name in the same folder, durably; replaces what is there."""
    flush(written)
    written.replace(final)
    flush(final.parent)
