"""How much memory this process may still take."""

import resource
from collections.abc import Mapping
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
"""Where Linux tells a container its limit and its use, which psutil does not look at."""
_NO_LIMIT = 2**62


def available_bytes(device: str) -> int:
    """The bytes that a computation of this process may still take.

    Args:
        device: as ``pick_device`` returns it.

    Returns:
        Of a GPU what is free. Of the CPU's memory the least of what the system has available, what
        the container's limit leaves, and what this process's own limits (``ulimit``) leave.
    """
    if device != "cpu":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    used = psutil.Process().memory_info()
    limits = {resource.RLIMIT_AS: used.vms, resource.RLIMIT_DATA: getattr(used, "data", used.rss)}
    return max(
        0, min(int(psutil.virtual_memory().available), cgroup_left(_CGROUP), left_of(limits))
    )


def left_of(used: Mapping[int, int]) -> int:
    """What the process's own limits leave, given what it uses of each."""
    left = _NO_LIMIT
    for kind, size in used.items():
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            left = min(left, limit - size)
    return left


def cgroup_left(folder: Path) -> int:
    """What a container's limit leaves; more than any memory has if there is no limit.

    Cached files count as used there, but give way when memory is wanted.
    """
    try:
        limit = (folder / "memory.max").read_text(encoding="utf-8").strip()
        used = int((folder / "memory.current").read_text(encoding="utf-8"))
        stat = (folder / "memory.stat").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return _NO_LIMIT
    if not limit.isdecimal():
        return _NO_LIMIT
    counts = dict(zip(stat[::2], stat[1::2], strict=False))
    cached = sum(int(counts.get(name, 0)) for name in ("inactive_file", "active_file"))
    return int(limit) - used + cached
