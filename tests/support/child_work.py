"""Functions for a child process; it imports them by name."""

import os
import signal
import time

from paraknow_core.errors import DataError


def add(a, b, progress):
    progress(1, 2, "half")
    return a + b, os.getpid()


def refuse(progress):
    raise DataError("row 7 is empty")


def break_down(progress):
    raise ZeroDivisionError("by zero")


def die(progress):
    os.kill(os.getpid(), signal.SIGKILL)


def whereabouts(progress, name):
    return os.getpid(), os.environ.get(name)


def linger(progress, folder):
    """Stay until told to go; tell how many are here at the same time."""
    mine = folder / str(os.getpid())
    mine.touch()
    time.sleep(0.5)
    seen = len(list(folder.iterdir()))
    mine.unlink()
    return seen


def wait_for_ever(progress, started):
    started.touch()
    time.sleep(3600)
