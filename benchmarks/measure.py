"""CPU seconds, wall seconds and peak memory of a call."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Timing(Generic[T]):
    """Medians over ``runs`` calls, and what the last call returned."""

    cpu: float
    wall: float
    runs: int
    result: T


def timed(call: Callable[[], T], *, runs: int = 5, budget: float = 5.0) -> Timing[T]:
    """Call up to ``runs`` times, but not again once ``budget`` CPU seconds are spent."""
    cpu: list[float] = []
    wall: list[float] = []
    while True:
        start_wall, start_cpu = time.perf_counter(), time.process_time()
        result = call()
        cpu.append(time.process_time() - start_cpu)
        wall.append(time.perf_counter() - start_wall)
        if len(cpu) == runs or sum(cpu) >= budget:
            return Timing(statistics.median(cpu), statistics.median(wall), len(cpu), result)


def _status(field: str) -> int:
    """A field of ``/proc/self/status`` in bytes (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def peak_growth(call: Callable[[], object]) -> int:
    """The most by which the resident memory rises during a call, in bytes."""
    # The kernel then resets VmHWM, the peak of the resident set, to its present size.
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    before = _status("VmRSS")
    keep = call()  # the result must not be freed before the peak is read
    peak = _status("VmHWM")
    del keep
    return peak - before


def in_own_process(case: str, side: str, **environment: str) -> dict[str, Any]:
    """Measure the peak of one case in a process of its own: see ``benchmarks.peak``."""
    found = subprocess.run(
        [sys.executable, "-m", "benchmarks.peak", case, side],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    answer: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return answer
