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

from paraknow_core.errors import ConfigError
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
        self._gpus = sorted(set(gpus))
        self._taking = threading.Lock()
        self._closed = threading.Event()

    @contextlib.contextmanager
    def worker(self, device: str, count: int = 1) -> Iterator[Worker]:
        """Wait for a worker for ``cpu`` or ``cuda``; without GPU slots all wait for a CPU slot.

        Args:
            device: that the step computes on.
            count: of GPUs. The slots of so many are taken, and the worker is shown all of them.

        Raises:
            WorkersClosedError: if the pool is or gets closed.
            ConfigError: if there are not so many GPUs in the slots.
        """
        several = count > 1 and device == "cuda" and self._gpus
        with self._several(count) if several else self._one(device) as worker:
            yield worker

    @contextlib.contextmanager
    def _one(self, device: str) -> Iterator[Worker]:
        free = self._free[device if self._gpus else "cpu"]
        worker = self._next(free)
        try:
            with self._going_on():
                yield worker
        finally:
            free.put(worker)

    @contextlib.contextmanager
    def _several(self, count: int) -> Iterator[Worker]:
        """Take the slots of several GPUs, and show all of these to a worker of its own.

        One takes at a time: two that had some each would wait for each other's for ever.
        """
        if len(self._gpus) < count:
            raise ConfigError(
                f"processes is {count}, each on a GPU of its own, but slots.gpus has "
                f"{', '.join(self._gpus)}. Add GPUs there, or lower processes."
            )
        free = self._free["cuda"]
        taken: dict[str, Worker] = {}
        doubles: list[Worker] = []
        try:
            with self._taking:
                while len(taken) < count:
                    worker = self._next(free)
                    gpu = worker.environment["CUDA_VISIBLE_DEVICES"]
                    doubles += [taken[gpu]] if gpu in taken else []
                    taken[gpu] = worker
            for worker in taken.values():
                worker.rest()  # it may hold memory of its GPU
            together = Worker({"CUDA_VISIBLE_DEVICES": ",".join(sorted(taken))})
            try:
                with self._going_on(together):
                    yield together
            finally:
                together.close()
        finally:
            for worker in (*taken.values(), *doubles):
                free.put(worker)

    def _next(self, free: "queue.SimpleQueue[Worker]") -> Worker:
        while True:
            self.check_open()
            with contextlib.suppress(queue.Empty):
                return free.get(timeout=0.2)

    @contextlib.contextmanager
    def _going_on(self, *more: Worker) -> Iterator[None]:
        """End workers with the pool as long as they compute, and tell an end from a failure."""
        self._all.extend(more)
        try:
            self.check_open()  # it may have come free because the pool was closed
            yield
        except ChildError:
            self.check_open()  # the child was ended, rather than failed
            raise
        finally:
            for worker in more:
                self._all.remove(worker)

    def check_open(self) -> None:
        """Raise WorkersClosedError once the pool is closed."""
        if self._closed.is_set():
            raise WorkersClosedError("interrupted: run the same command again to go on")

    def close(self) -> None:
        """End every worker process; a thread that waits for one gets WorkersClosedError."""
        self._closed.set()
        for worker in list(self._all):
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
    devices: int = 1,
) -> Computed:
    """Compute a step where it belongs, when the device is free for this run.

    Args:
        compute: the step's function, importable by name.
        job: its ``Job``; one with a progress that reports here.
        label: how this use of the step is shown.
        threaded: whether it computes with torch; only such steps are worth a worker.
        own_process: whether it needs a process of its own even without a pool.
        device: ``cpu`` or ``cuda``.
        devices: how many GPUs it computes on at once.

    Raises:
        ParaknowError: as the step raises it; a ChildError if its process died.
    """
    pool, threads = _ACTIVE.get(), threads_of(job.run)
    arguments = {"compute": compute, "job": replace(job, progress=None), "threads": threads}
    locks = job.run.open_store().root / "leases"
    count = devices if device == "cuda" else 1
    its_turn = partial(turn, device, label=label, locks=locks, check=check_going_on, count=count)
    found: Computed
    if not (threaded or own_process):
        found = _compute(compute, job, 0, job.progress)
    elif pool is not None:
        with pool.worker(device, count) as worker, its_turn(worker.environment):
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
