"""Where a step computes: here, in a process of its own, or in one of a flow's worker processes."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from paraknow_core.progress import Progress
from paraknow_core.registry import noted_lookups
from tasks.engine.child import ChildError, Worker, run_in_child
from tasks.engine.devices.turn import turn
from tasks.engine.kept import let_go
from tasks.engine.run import RunConfig


@dataclass(frozen=True)
class Computed:
    """What computing a step gave.

    Attributes:
        facts: as its function returned them.
        seconds: that it computed.
        used: kind of choice → the entries of its registry that were looked up.
    """

    facts: Any
    seconds: float
    used: Mapping[str, Sequence[str]]


class WorkersClosedError(Exception):
    """The flow was interrupted: nothing more is to be computed in it."""


class WorkerPool:
    """Worker processes, each of which computes one step at a time: the slots of a flow.

    A step that computes on a GPU takes a GPU slot (that process sees this one device); any other
    takes a CPU slot.
    """

    def __init__(self, *, cpu: int, gpus: tuple[str, ...] = ()) -> None:
        """Declare the slots.

        Args:
            cpu: number of CPU slots, at least 1.
            gpus: for each GPU slot what CUDA_VISIBLE_DEVICES is set to.
        """
        self.cpu = cpu
        self._all = [Worker() for _ in range(cpu)]
        self._free: dict[str, queue.SimpleQueue[Worker]] = {
            "cpu": queue.SimpleQueue(),
            "cuda": queue.SimpleQueue(),
        }
        for worker in self._all:
            self._free["cpu"].put(worker)
        for gpu in gpus:
            self._all.append(Worker({"CUDA_VISIBLE_DEVICES": gpu}))
            self._free["cuda"].put(self._all[-1])
        self._has_gpus = bool(gpus)
        self._closed = threading.Event()

    @contextlib.contextmanager
    def worker(self, device: str) -> Iterator[Worker]:
        """Wait for a worker for ``cpu`` or ``cuda``; without GPU slots all wait for a CPU slot.

        Raises:
            WorkersClosedError: if the pool is or gets closed.
        """
        free, worker = self._free[device if self._has_gpus else "cpu"], None
        while worker is None:
            self.check_open()
            with contextlib.suppress(queue.Empty):
                worker = free.get(timeout=0.2)
        try:
            self.check_open()  # it may have come free because the pool was closed
            yield worker
        except ChildError:
            self.check_open()  # the child was ended, rather than failed
            raise
        finally:
            free.put(worker)

    def check_open(self) -> None:
        """Raise WorkersClosedError once the pool is closed."""
        if self._closed.is_set():
            raise WorkersClosedError("interrupted: run the same command again to go on")

    def close(self) -> None:
        """End every worker process; a thread that waits for one gets WorkersClosedError."""
        self._closed.set()
        for worker in self._all:
            worker.close()


_ACTIVE: ContextVar[WorkerPool | None] = ContextVar("worker_pool", default=None)


@contextlib.contextmanager
def worker_pool(pool: WorkerPool) -> Iterator[WorkerPool]:
    """Have the steps that are run inside compute in the pool's workers; ends them afterwards."""
    token = _ACTIVE.set(pool)
    try:
        yield pool
    finally:
        _ACTIVE.reset(token)
        pool.close()


def check_going_on() -> None:
    """Raise WorkersClosedError if the flow around this step was interrupted."""
    pool = _ACTIVE.get()
    if pool is not None:
        pool.check_open()


def threads_of(run: RunConfig) -> int:
    """Return the torch threads of a step: as set, or this machine's cores shared by the slots."""
    pool = _ACTIVE.get()
    slots = pool.cpu if pool is not None else 1
    return run.threads or max(1, run.thread_count() // slots)


def compute_step(
    compute: Callable[[Any], Any],
    job: Any,
    *,
    label: str,
    threaded: bool,
    own_process: bool,
    device: str,
) -> Computed:
    """Compute a step where it belongs, when the device is free for this run.

    Args:
        compute: the step's function, importable by name.
        job: its ``Job``; one with a progress that reports here.
        label: how this use of the step is shown.
        threaded: whether it computes with torch; only such steps are worth a worker.
        own_process: whether it needs a process of its own even without a pool.
        device: ``cpu`` or ``cuda``.

    Raises:
        ParaknowError: as the step raises it; a ChildError if its process died.
    """
    pool, threads = _ACTIVE.get(), threads_of(job.run)
    arguments = {"compute": compute, "job": replace(job, progress=None), "threads": threads}
    locks = job.run.open_store().root / "leases"
    its_turn = partial(turn, device, label=label, locks=locks, check=check_going_on)
    found: Computed
    if not (threaded or own_process):
        found = _compute(compute, job, 0, job.progress)
    elif pool is not None:
        with pool.worker(device) as worker, its_turn(worker.environment):
            found = worker.run(_compute, progress=job.progress, **arguments)
    else:
        with its_turn({}):
            if own_process:
                found = run_in_child(_compute, progress=job.progress, **arguments)
            else:
                found = _compute(compute, job, threads, job.progress)
    return found


def _compute(compute: Callable[[Any], Any], job: Any, threads: int, progress: Progress) -> Computed:
    if threads:
        import torch

        torch.set_num_threads(threads)
    let_go(but=compute)
    began = time.monotonic()  # here, so that waiting for a worker does not count
    with noted_lookups() as used:
        facts = compute(replace(job, progress=progress))
    return Computed(facts, time.monotonic() - began, {k: sorted(used[k]) for k in sorted(used)})
