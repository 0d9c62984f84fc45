"""Locks of one machine's devices: the kernel frees them with the process, however that ends."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tasks.engine.progress import logger

Waiting = Callable[[float], None]
"""Called with the seconds waited so far, about twice a second; what it raises ends the wait."""

_POLL_SECONDS: Final = 0.05
_TELL_SECONDS: Final = 0.5


@contextmanager
def alone(path: Path, waiting: Waiting) -> Iterator[Callable[[], None]]:
    """Hold a lock against every other thread and process, until what is yielded is called.

    Args:
        path: of the lock file; made where it is not.
        waiting: what is done while another has it.
    """
    file = _open(path)
    freed = threading.Event()

    def free() -> None:
        if file is not None and not freed.is_set():
            freed.set()
            os.close(file)

    try:
        if file is not None:
            _take(file, fcntl.LOCK_EX, waiting)
        yield free
    finally:
        free()


class _Held:
    """Device locks of this process: threads that compute on one device share its lock."""

    def __init__(self) -> None:
        self.files: dict[tuple[Path, bool], tuple[int, int]] = {}
        self.changing = threading.Lock()


_HELD: Final = _Held()


@contextmanager
def holding(path: Path, waiting: Waiting, *, shared: bool) -> Iterator[None]:
    """Hold a device's lock against other processes.

    A comparison may give one GPU two of its slots; its steps do not exclude each other.

    Args:
        path: of the lock file; made where it is not.
        waiting: what is done while others have it.
        shared: with others that share it. For runs that have a slot on a server, which says how
            many may compute there; against a run without a server each of them holds the lock.
    """
    mine = path, shared
    with _HELD.changing:
        file, uses = _HELD.files.get(mine, (-1, 0))
        if uses:
            _HELD.files[mine] = file, uses + 1
    if not uses:
        opened = _open(path)
        if opened is None:
            yield
            return
        try:
            _take(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, waiting)
        except BaseException:
            os.close(opened)
            raise
        with _HELD.changing:
            _HELD.files[mine] = opened, 1
    try:
        yield
    finally:
        with _HELD.changing:
            file, uses = _HELD.files.pop(mine)
            if uses > 1:
                _HELD.files[mine] = file, uses - 1
            else:
                os.close(file)


def _open(path: Path) -> int | None:
    """Open a lock file; what cannot be locked costs only a device that two runs share."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        logger.warning("no lock %s (%s); carrying on without", path, error.strerror)
        return None


def _take(file: int, how: int, waiting: Waiting) -> None:
    began = time.monotonic()
    told = 0.0
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = time.monotonic() - began
            if waited >= told:
                told = waited + _TELL_SECONDS
                waiting(waited)
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            logger.warning("no file locks here (%s); carrying on without", error.strerror)
            return
        else:
            return
