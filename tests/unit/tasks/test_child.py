"""A function in a process of its own: result, progress, errors, death."""

import contextlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import child_work
from support.child_work import add, break_down, die, linger, refuse, wait_for_ever, whereabouts
from support.patience import PATIENCE, wait_until

from paraknow_core.errors import DataError
from paraknow_core.progress import no_progress
from tasks.engine import freed_memory
from tasks.engine.child import ChildError, Worker, run_in_child
from tasks.engine.freed_memory import GIVES_BACK, small_blocks_given_back
from tasks.engine.workers import WorkerPool, WorkersClosedError


def test_result_and_progress_come_back_from_another_process():
    seen = []
    total, pid = run_in_child(add, progress=lambda *tick: seen.append(tick), a=2, b=3)
    assert total == 5
    assert pid != os.getpid()
    assert seen == [(1, 2, "half")]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (refuse, DataError, "row 7 is empty"),
        (break_down, ChildError, "ZeroDivisionError"),
        (die, ChildError, r"exit code -9"),
    ],
)
def test_errors_come_back_as_errors(function, error, message):
    with pytest.raises(error, match=message):
        run_in_child(function, progress=lambda *tick: None)


@pytest.fixture
def worker():
    worker = Worker({"PARAKNOW_TEST": "there"})
    yield worker
    worker.close()


def test_a_worker_keeps_its_process_and_its_environment(worker):
    first, there = worker.run(whereabouts, progress=no_progress, name="PARAKNOW_TEST")
    again, _ = worker.run(whereabouts, progress=no_progress, name="PARAKNOW_TEST")
    assert first == again != os.getpid()
    assert there == "there"
    assert "PARAKNOW_TEST" not in os.environ


@pytest.mark.parametrize("mishap", [refuse, break_down, die])
def test_a_worker_serves_on_after_any_mishap(worker, mishap):
    for _ in range(2):
        with pytest.raises((DataError, ChildError)):
            worker.run(mishap, progress=no_progress)
        assert worker.run(add, progress=no_progress, a=1, b=1)[0] == 2


def test_a_worker_that_is_interrupted_starts_afresh(worker):
    def interrupt(*_tick):
        raise KeyboardInterrupt

    first, _ = worker.run(whereabouts, progress=no_progress, name="")
    with pytest.raises(KeyboardInterrupt):
        worker.run(add, progress=interrupt, a=1, b=1)
    assert worker.run(whereabouts, progress=no_progress, name="")[0] != first


def test_no_more_run_at_once_than_there_are_slots(tmp_path):
    pool = WorkerPool(cpu=2)

    def one(_number):
        with pool.worker("cuda") as worker:  # no GPU slot: it waits for a CPU's
            return worker.run(linger, progress=no_progress, folder=tmp_path)

    try:
        with ThreadPoolExecutor(6) as threads:
            seen = list(threads.map(one, range(6)))
    finally:
        pool.close()
    assert max(seen) == 2


def test_a_gpu_slot_sees_its_own_device():
    pool = WorkerPool(cpu=1, gpus=("3",))
    name = "CUDA_VISIBLE_DEVICES"
    try:
        with pool.worker("cuda") as there, pool.worker("cpu") as here:
            assert there.run(whereabouts, progress=no_progress, name=name)[1] == "3"
            assert here.run(whereabouts, progress=no_progress, name=name)[1] != "3"
    finally:
        pool.close()


def test_closing_ends_what_is_computed_and_tells_who_waits(tmp_path):
    pool = WorkerPool(cpu=1)

    def one(_number):
        with pool.worker("cpu") as worker:
            return worker.run(wait_for_ever, progress=no_progress, started=tmp_path / "started")

    with ThreadPoolExecutor(2) as threads:
        futures = [threads.submit(one, number) for number in range(2)]
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        pool.close()
        errors = {type(future.exception(timeout=PATIENCE)) for future in futures}
    assert errors == {WorkersClosedError}


def test_a_worker_that_comes_free_by_closing_computes_nothing_more(tmp_path):
    pool = WorkerPool(cpu=1)
    started = tmp_path / "started"

    def close_and_compute():
        with pool.worker("cpu") as worker:
            pool.close()
            worker.run(wait_for_ever, progress=no_progress, started=started)

    with pytest.raises(WorkersClosedError):
        close_and_compute()
    assert not started.exists()


def test_a_closed_worker_refuses():
    worker = Worker()
    worker.close()
    with pytest.raises(ChildError, match="was closed"):
        worker.run(add, progress=no_progress, a=1, b=2)


def test_a_worker_in_one_long_call_does_not_outlive_its_parent(tmp_path):
    started, tests = tmp_path / "started", Path(child_work.__file__).parents[1]
    code = f"from support.child_work import wait_for_worker; wait_for_worker({str(started)!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tests, stdout=subprocess.PIPE)
    try:
        wait_until("the call", started.exists)
    finally:
        parent.kill()
    parent.communicate(timeout=PATIENCE)  # the worker holds stdout open for as long as it lives


def test_the_terminals_interrupt_is_not_for_workers():
    """Not for the first one of a process either, which multiprocessing starts otherwise."""
    code = "from support.child_work import interrupt_worker; interrupt_worker()"
    tests = Path(child_work.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tests, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_worker_gives_freed_memory_back_unless_the_user_has_chosen(monkeypatch):
    """glibc reads its settings when a process starts, so they have to be there by then."""
    chosen = [*GIVES_BACK, "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"]
    for name in chosen:
        monkeypatch.delenv(name, raising=False)

    def seen() -> tuple[str | None, str | None]:
        with contextlib.closing(Worker()) as worker:
            found = [
                worker.run(whereabouts, progress=no_progress, name=name)[1]
                for name in ("MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
            ]
        return found[0], found[1]

    assert seen() == (GIVES_BACK["MALLOC_MMAP_THRESHOLD_"], None)
    assert not any(name in os.environ for name in GIVES_BACK)
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    assert seen() == (None, "glibc.malloc.hugetlb=1")
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.cpu.hwcaps=")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    assert seen()[0] == "65536"


def test_small_blocks_are_given_back_for_a_while_where_nobody_has_chosen(monkeypatch):
    calls = []

    class Libc:
        @staticmethod
        def mallopt(option, value):
            calls.append((option, value))

    monkeypatch.setattr(freed_memory.ctypes, "CDLL", lambda _name: Libc)
    monkeypatch.setattr(freed_memory.platform, "libc_ver", lambda: ("glibc", "2.36"))
    name, size = next(iter(GIVES_BACK.items()))
    for chosen in (None, "65536"):
        monkeypatch.setenv(name, chosen) if chosen else monkeypatch.delenv(name, raising=False)
        with small_blocks_given_back():
            pass
    assert calls == []
    monkeypatch.setenv(name, size)
    with contextlib.suppress(ZeroDivisionError), small_blocks_given_back():
        assert calls == [(-3, 131072)]
        _ = 1 / 0
    assert calls == [(-3, 131072), (-3, int(size))]
