"""What this machine has and how fast it is, from measurements of a fraction of a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

_SIDE = 1024
_ELEMENTS = 16 * 2**20
_CGROUP = Path("/sys/fs/cgroup/memory.max")
"""Where Linux tells a container its limit, which psutil does not look at."""


@dataclass(frozen=True)
class Machine:
    """What a computation may use here.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: torch's, on the CPU.
        flops: floating-point operations a second of a matrix product in the compute dtype.
        flops64: the same in float64.
        bandwidth: bytes a second, read and written, of a sum of two arrays.
        memory_bytes: of the device in all, as far as this process may use it.
        free_bytes: of that, free now.
    """

    device: str
    threads: int
    flops: float
    flops64: float
    bandwidth: float
    memory_bytes: int
    free_bytes: int


def measure(device: str, dtype: torch.dtype, *, seconds: float = 0.2) -> Machine:
    """Measure a device for a moment.

    Args:
        device: as ``pick_device`` returns it.
        dtype: that models are computed in.
        seconds: for each of the three measurements.
    """
    kind = device.partition(":")[0]
    memory, free = _memory(device)
    a, b = (torch.randn(_SIDE, _SIDE, dtype=dtype, device=device) for _ in range(2))
    half = _SIDE // 2
    c, d = (torch.randn(half, half, dtype=torch.float64, device=device) for _ in range(2))
    x, y = (torch.ones(_ELEMENTS, device=device) for _ in range(2))
    return Machine(
        device=kind,
        threads=torch.get_num_threads(),
        flops=2 * _SIDE**3 / _best(lambda: a @ b, device, seconds),
        flops64=2 * half**3 / _best(lambda: c @ d, device, seconds),
        bandwidth=3 * 4 * _ELEMENTS / _best(lambda: x.add_(y), device, seconds),
        memory_bytes=memory,
        free_bytes=free,
    )


def _best(work: Callable[[], object], device: str, seconds: float) -> float:
    """Seconds of the quickest call: other work on the machine only ever adds to it."""
    best, end, calls = float("inf"), time.monotonic() + seconds, 0
    while calls < 3 or time.monotonic() < end:
        start = time.perf_counter()
        work()
        if device != "cpu":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        calls += 1
    return best


def _memory(device: str) -> tuple[int, int]:
    if device != "cpu":
        free, total = torch.cuda.mem_get_info(device)
        return int(total), int(free)
    found = psutil.virtual_memory()
    total = min(found.total, _limit(_CGROUP))
    return total, min(total, found.available)


def _limit(path: Path) -> int:
    """A container's memory limit; a number larger than any memory if there is none."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return 2**62
    return int(text) if text.isdecimal() else 2**62
