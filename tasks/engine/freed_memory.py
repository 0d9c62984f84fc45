"""Processes that compute give freed memory back to the system.

glibc maps large blocks one by one, and unmaps them when they are freed; but each that is freed
raises the size from which on it does so, up to 32 MiB. Smaller ones then come from a heap, whose
holes stay the process's own and are often not what the next block fits into. A fixed size ends
that: it is read from the environment when a process starts, so whoever starts one has to give it.
"""

import ctypes
import os
import platform
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

GIVES_BACK: Final[Mapping[str, str]] = MappingProxyType({"MALLOC_MMAP_THRESHOLD_": "4194304"})
"""Blocks from 4 MiB on. Smaller ones would cost more time to map than they are worth: training a
student of 60M, the peak was 2.6 GB as glibc has it, 1.9 with 4 MiB and with 128 KiB, and the
processor's time 28, 30 and 35 s. Other C libraries do not read it."""

_SMALL_BLOCK = 131_072
_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD
_OWN = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")
_STARTING = threading.Lock()


def gives_back(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The variables that a process needs beyond an environment; none where it has its own.

    Whoever sets one of glibc's variables of this kind, or its ``GLIBC_TUNABLES`` for ``malloc``,
    has chosen: nothing is added to that.
    """
    chosen = any(name in environ for name in _OWN)
    chosen = chosen or "glibc.malloc." in environ.get("GLIBC_TUNABLES", "")
    return {} if chosen else GIVES_BACK


@contextmanager
def giving_back() -> Iterator[None]:
    """Start processes inside that give freed memory back; this one's environment stays as it was.

    It is for processes that inherit the environment, as those of ``multiprocessing`` do.
    """
    with _STARTING:  # or a thread would take what another has added for what was there
        added = dict(gives_back(os.environ))
        os.environ.update(added)
        try:
            yield
        finally:
            for name in added:
                del os.environ[name]


@contextmanager
def small_blocks_given_back() -> Iterator[None]:
    """Give blocks from 128 KiB on back as well, in a process that was started by ``giving_back``.

    For work that is done in pieces because there is little memory: their holes would add up to
    more than the largest piece. It costs time, so it ends with the work.
    """
    name, size = next(iter(GIVES_BACK.items()))
    if os.environ.get(name) != size or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_MMAP_THRESHOLD, _SMALL_BLOCK)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, int(size))
