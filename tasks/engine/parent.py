"""Children that end with the process that started them, whatever either is doing then."""

import fcntl
import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def end_with_parent(pipe: int) -> None:
    """Kill this process as soon as the other end of ``pipe`` is closed.

    That end is held by the parent alone, so it is closed when the parent ends, by SIGKILL as well.
    On Linux the kernel itself then sends SIGKILL: a process in the middle of one long C++ call,
    even of one that holds Python's lock, would run no code of its own. (PR_SET_PDEATHSIG would not
    do: it takes the end of the *thread* that started a child for the end of its parent.)

    Args:
        pipe: file descriptor of the reading end, which nobody writes to or reads from.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([pipe], [], [], 0)[0]:  # it had ended before the kernel was asked
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_wait_and_end, args=(pipe,), daemon=True).start()


def _wait_and_end(pipe: int) -> None:
    select.select([pipe], [], [])
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def held_back(*signals: signal.Signals) -> Iterator[None]:
    """Start processes inside that never get these signals; this one gets them afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
