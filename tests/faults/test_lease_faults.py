"""A lease's holder is stopped, killed, or has a clock that is days off: there is progress."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

import pytest
from support import publisher, worker
from support.patience import PATIENCE
from support.strace import ENVIRONMENT

from artifacts.care.verify import verify
from artifacts.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.figures(faults=1)]


class Worker:
    def __init__(self, store: Store, name: str, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, sys.executable, worker.__file__, str(store.root), name],
            # Only the calendar is off: a host's monotonic clock has no date. The store's disk
            # keeps its own time, as a file server does.
            env=ENVIRONMENT | {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that it can be killed with what faketime started
        )
        self._lines: Queue[str] = Queue()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        for line in self.process.stdout:
            self._lines.put(line.decode().strip())

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._listener.join()

    def close(self) -> None:
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def heard(self, expected: str) -> str:
        """Return the next line, which must contain this and come in time."""
        try:
            line = self._lines.get(timeout=PATIENCE)
        except Empty:
            line = "nothing"
        if expected not in line:
            self.kill()
            pytest.fail(f"{line!r}, not {expected!r}: {self.process.stderr.read()[-2000:]!r}")
        return line

    def signal(self, number: signal.Signals) -> None:
        """Signal the worker, and not a wrapper around it."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        os.kill(int((children.split() or [self.process.pid])[0]), number)

    def finish(self) -> None:
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()


@pytest.fixture
def start(memory: Path) -> Iterator[Callable[..., Worker]]:
    store, workers = Store.open(memory / "store"), []

    def starting(name: str, *prefix: str) -> Worker:
        workers.append(Worker(store, name, *prefix))
        return workers[-1]

    yield starting
    for started in workers:
        started.close()


def result_of(memory: Path) -> tuple[str, bytes]:
    store = Store.open(memory / "store")
    record = store.lookup(publisher.PAYLOAD.key())
    assert verify(store) == []
    return record.tree, store.file_path(record, "result").read_bytes()


def off_by(days: str) -> list[str]:
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed; wrong clocks were NOT tested")
    # A killed faketime leaves its semaphore behind, named by its process number; the next one to
    # be given that number would refuse to start.
    for left in Path("/dev/shm").glob("*faketime_*_*"):
        if not Path("/proc", left.name.rpartition("_")[2]).exists():
            left.unlink(missing_ok=True)
    return ["faketime", "-f", f"{days}d"]


@pytest.mark.figures(kills=1)
def test_a_killed_holder_is_taken_over_from(memory, start):
    holder = start("holder")
    holder.heard("computing")
    second = start("second")
    second.heard("waiting")
    holder.signal(signal.SIGKILL)
    second.heard("computing")
    second.finish()
    tree = second.heard("computed").split()[0]
    assert result_of(memory) == (tree, b"second")


def test_a_stopped_holder_that_wakes_up_adopts_what_another_published(memory, start):
    holder = start("holder")
    holder.heard("computing")
    holder.signal(signal.SIGSTOP)
    second = start("second")
    second.heard("waiting")
    second.heard("computing")
    second.finish()
    tree = second.heard("computed").split()[0]
    holder.signal(signal.SIGCONT)
    holder.finish()
    assert holder.heard("computed").split()[0] == tree
    assert result_of(memory) == (tree, b"second")


def test_a_stopped_holder_that_wakes_up_first_and_its_successor_agree(memory, start):
    """Its work folder was taken over: it must fail or publish, never spoil its successor's."""
    holder = start("holder")
    holder.heard("computing")
    holder.signal(signal.SIGSTOP)
    second = start("second")
    second.heard("waiting")
    second.heard("computing")
    holder.signal(signal.SIGCONT)
    holder.finish()
    assert holder.process.wait(PATIENCE) != 0
    assert b"StoreIOError" in holder.process.stderr.read()
    second.finish()
    tree = second.heard("computed").split()[0]
    assert result_of(memory) == (tree, b"second")


@pytest.mark.parametrize("days", ["-3", "+3"])
@pytest.mark.parametrize("whose", ["holder", "waiter"])
def test_a_clock_off_by_days_neither_breaks_a_lease_nor_keeps_one(memory, start, days, whose):
    wrong = off_by(days)
    holder = start("holder", *(wrong if whose == "holder" else ()))
    holder.heard("computing")
    second = start("second", *(wrong if whose == "waiter" else ()))
    # libfaketime makes some sleeps fail with EINVAL: lock trouble, so that the step is computed
    # twice, which is the worst that may happen.
    twice = second.heard("ing") == "computing"
    time.sleep(2 * worker.DURATION)
    holder.finish()
    tree = holder.heard("computed").split()[0]
    if twice:
        assert whose == "waiter"
        second.finish()
    second.heard(f"{tree} {'computed' if twice else 'found'}")
    assert result_of(memory) == (tree, b"holder")


@pytest.mark.figures(kills=1, faults=1)
@pytest.mark.parametrize("days", ["-3", "+3"])
def test_a_killed_holder_whose_clock_was_off_is_taken_over_from(memory, start, days):
    holder = start("holder", *off_by(days))
    holder.heard("computing")
    second = start("second")
    second.heard("waiting")
    holder.signal(signal.SIGKILL)
    second.heard("computing")
    second.finish()
    second.heard("computed")
    assert result_of(memory)[1] == b"second"
