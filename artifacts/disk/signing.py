"""A key of the user's own, outside every store: by it this program knows what it wrote itself."""

import contextlib
import functools
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from blake3 import blake3

from artifacts.canonical import canonical_bytes
from artifacts.disk.files import read_small, replace_file
from artifacts.disk.locations import user_data_folder

_LENGTH: Final = 32


def signature(value: object) -> str | None:
    """Return the keyed digest of a value that has a canonical form; None if there is no key."""
    key = _key(user_data_folder())
    return None if key is None else blake3(canonical_bytes(value), key=key).hexdigest()


@functools.cache
def _key(folder: Path) -> bytes | None:
    """Read the key, or make one: a lost key costs only that files are hashed once more."""
    path = folder / "stamps.key"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (found := _own(path)) is None:
            replace_file(path, secrets.token_bytes(_LENGTH), folder, mode=0o400)
            found = _own(path)  # another process may have put its own there meanwhile
        return found
    return None


def _own(path: Path) -> bytes | None:
    """Return the key if nobody but this user can have read or written it."""
    with contextlib.suppress(FileNotFoundError):
        status = path.lstat()
        private = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
        data = read_small(path, _LENGTH)
        if private and data is not None and len(data) == _LENGTH:
            return data
    return None
