"""Files that are complete or absent, also after a power cut: flush, rename, flush the folder."""

import os
from pathlib import Path


def flush(path: Path) -> None:
    """Write a file's bytes, or a folder's names, through to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def settle(written: Path, final: Path) -> None:
    """Give a finished draft its final name in the same folder, durably; replaces what is there."""
    flush(written)
    written.replace(final)
    flush(final.parent)
