"""blake3 of bytes and files, taken while they stream by (about 1.8 GB/s on one core)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from blake3 import blake3

from artifacts.errors import StoreIOError
from artifacts.names import Digest

CHUNK: Final = 4 * 1024 * 1024

BytesProgress = Callable[[int, int, str], None]
"""Called as ``progress(bytes done, bytes total, message)``."""


def no_bytes_progress(done: int, total: int, message: str) -> None:
    """Ignore the report; the default where nobody watches."""


def digest_bytes(data: bytes) -> Digest:
    """Return the digest of ``data``."""
    return Digest(blake3(data).hexdigest())


def buffer_size(descriptor: int) -> int:
    """Return how much to read of a file at a time: all of a small one, CHUNK of a large one."""
    return min(CHUNK, os.fstat(descriptor).st_size + 1)


def hash_descriptor(
    descriptor: int, *, advance: Callable[[int], None] = lambda _count: None
) -> tuple[Digest, int]:
    """Hash an open file from its present position to its end.

    Args:
        descriptor: open for reading; its position is moved to the end.
        advance: called with the number of bytes just read.

    Returns:
        The digest and the number of bytes read.
    """
    hasher, size = blake3(), 0
    buffer = bytearray(buffer_size(descriptor))
    view = memoryview(buffer)
    while count := os.readv(descriptor, [buffer]):
        hasher.update(view[:count])
        size += count
        advance(count)
    return Digest(hasher.hexdigest()), size


def hash_file(path: Path, *, progress: BytesProgress = no_bytes_progress) -> Digest:
    """Return the digest of a file, symbolic links followed.

    Raises:
        StoreIOError: if it cannot be read.
    """
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total, path.name)

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            total = os.fstat(descriptor).st_size
            return hash_descriptor(descriptor, advance=advance)[0]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreIOError(f"cannot read {path} to digest it: {error.strerror}") from error
