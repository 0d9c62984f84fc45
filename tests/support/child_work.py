"""Functions for a child process; it imports them by name."""

import os
import signal
import time
from pathlib import Path

from support.guarded import hold_lock_for_ever

from paraknow_core.errors import DataError
from paraknow_core.progress import no_progress
from tasks.engine.child import Worker


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
    """Stay for half a second; return how many workers were here at the same time."""
    mine = folder / str(os.getpid())
    mine.touch()
    time.sleep(0.5)
    seen = len(list(folder.iterdir()))
    mine.unlink()
    return seen


def wait_for_ever(progress, started):
    started.touch()
    time.sleep(3600)


def hold_lock(progress, started):
    """One long call that lets no other Python of this process run."""
    started.touch()
    hold_lock_for_ever()


def wait_for_worker(started):
    """What a parent is doing when it is killed."""
    Worker().run(hold_lock, progress=no_progress, started=Path(started))


def interrupt_worker():
    """Send a worker SIGINT, as Ctrl-C on a terminal does; it must keep working."""
    worker = Worker()
    first, _ = worker.run(whereabouts, progress=no_progress, name="")
    os.kill(first, signal.SIGINT)
    assert worker.run(whereabouts, progress=no_progress, name="")[0] == first
    worker.close()


def arrive(folder):
    """Wait until both of two processes are here; return this one's number."""
    number = int(os.environ["RANK"])
    (folder / f"{number}.draft").write_text(str(os.getpid()))
    (folder / f"{number}.draft").rename(folder / str(number))
    while not {"0", "1"} <= {path.name for path in folder.iterdir()}:
        time.sleep(0.01)
    return number


def second_fails(progress, folder, how):
    """The second fails, and the first would wait for it for ever."""
    if arrive(folder) == 0:
        time.sleep(3600)
    elif how == "refuses":
        refuse(progress)
    elif how == "breaks":
        break_down(progress)
    os.kill(os.getpid(), getattr(signal, how))


def both_wait(progress, folder):
    """What a training in two processes is doing when it is ended."""
    arrive(folder)
    time.sleep(3600)


def begin_both(progress, folder):
    """Start two processes from one that was itself started."""
    from tasks.engine.devices.ranks import run_in_ranks

    run_in_ranks(both_wait, count=2, progress=no_progress, folder=folder)
