"""Large files: hash, write and flush at the same time.

A flush only starts early what the last fsync before the rename waits for anyway; that fsync stays.
The threads end with the file, so that a process may fork in between (a pool of blake3's own could
not be used after one). Small files take the plain way: a thread would cost more than it saves.
"""

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from blake3 import blake3

from artifacts.disk.digests import CHUNK, buffer_size
from artifacts.disk.files import write_all
from artifacts.names import Digest

LARGE: Final = 64 * 1024 * 1024
_FLUSH_EVERY: Final = 64 * 1024 * 1024


@contextlib.contextmanager
def flushing(descriptor: int) -> Iterator[None]:
    """Write a large file out to the disk while the block runs, for instance while it is hashed.

    Raises:
        OSError: at the block's end, if that failed. The system reports a lost write to a descriptor
            only once, so it must not be ignored here.
    """
    if os.fstat(descriptor).st_size < LARGE:
        yield
        return
    with ThreadPoolExecutor(1) as pool:
        flushed = pool.submit(os.fsync, descriptor)
        yield
        flushed.result()


def copy_hashing(
    source: int, target: int, read_into: Callable[[int, memoryview], int]
) -> tuple[Digest, int]:
    """Copy one open file to another; the digest is of the very bytes that were written.

    Args:
        source: descriptor open for reading.
        target: descriptor open for writing, at its end.
        read_into: reads from ``source`` into a buffer; returns the number of bytes, 0 at the end.

    Returns:
        The digest and the number of bytes.

    Raises:
        OSError: if writing, or an early flush, failed.
    """
    if os.fstat(source).st_size >= LARGE:
        return _copy_large(source, target, read_into)
    hasher, size = blake3(), 0
    buffer = memoryview(bytearray(buffer_size(source)))
    while count := read_into(source, buffer):
        write_all(target, buffer[:count])
        hasher.update(buffer[:count])
        size += count
    return Digest(hasher.hexdigest()), size


def _copy_large(
    source: int, target: int, read_into: Callable[[int, memoryview], int]
) -> tuple[Digest, int]:
    hasher, size, unflushed = blake3(), 0, 0
    with ThreadPoolExecutor(1) as hashing, ThreadPoolExecutor(1) as flusher:
        hashed, flushed = _done(), _done()
        for buffer in itertools.cycle([memoryview(bytearray(CHUNK)) for _ in range(2)]):
            count = read_into(source, buffer)  # while the other buffer is hashed
            hashed.result()
            if not count:
                break
            hashed = hashing.submit(_update, hasher, buffer[:count])
            write_all(target, buffer[:count])
            size, unflushed = size + count, unflushed + count
            if unflushed >= _FLUSH_EVERY and flushed.done():
                flushed.result()
                flushed, unflushed = flusher.submit(os.fdatasync, target), 0
        flushed.result()
    return Digest(hasher.hexdigest()), size


def _update(hasher: blake3, data: memoryview) -> None:
    hasher.update(data)


def _done() -> Future[None]:
    future: Future[None] = Future()
    future.set_result(None)
    return future
