"""A command under the guard that behaves in one of several ways; run as ``python guarded.py HOW``.

It writes ``ready`` to stdout when it can be interrupted; stdout is open for as long as one of
its processes lives.
"""

import ctypes
import os
import signal
import sys
import time

from flows.cli import guard


def ready() -> None:
    """Say that signals may come."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def hold_lock_for_ever() -> None:
    """Wait in C, with Python's lock held: no Python code runs in this process any more.

    Signals are blocked before it writes ``ready``, so that none is handled before it is stuck.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, guard.ENDING)
    ready()
    mutex = ctypes.create_string_buffer(128)
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)


def tidy_up() -> None:
    """Take some time to clean up after the first interrupt."""
    try:
        ready()
        signal.pause()
    except KeyboardInterrupt:
        time.sleep(0.5)
        sys.stdout.write("tidied up\n")
        sys.stdout.flush()
        sys.exit(130)


def main(how: str, grace: str) -> None:
    guard.GRACE_SECONDS = float(grace)
    guard.guard()
    if how == "stuck":
        hold_lock_for_ever()
    elif how == "tidy":
        tidy_up()
    elif how == "killed":
        ready()
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        ready()
        sys.exit(int(how))


if __name__ == "__main__":
    main(*sys.argv[1:])
