"""A device computes for one run at a time: runs on one machine take turns, step by step.

A run whose steps are all stored asks for no device, so nothing keeps it waiting.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tasks.engine.devices.locks import Waiting, alone, holding
from tasks.engine.devices.server_slot import server_slot
from tasks.engine.progress import logger

_TOLD: Final = 15.0
_STUCK: Final = 600.0
"""Seconds after which it is said how a slot is freed that nobody has."""


def device_name(device: str, environment: Mapping[str, str]) -> str:
    """Name the device that a step computes on, within its machine.

    Args:
        device: ``cpu`` or ``cuda``.
        environment: of the process that computes. Steps use the first GPU that it shows.

    Returns:
        ``cpu``, or ``gpu`` with the number or id that CUDA_VISIBLE_DEVICES has.
    """
    if device != "cuda":
        return "cpu"
    first = environment.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    return f"gpu{first or 0}"


def limit_name(device: str, host: str = "") -> str:
    """Name a device among all machines: what its global concurrency limit is called.

    Args:
        device: as `device_name` gives it.
        host: name of the machine; "": this one's.
    """
    return "paraknow-" + re.sub(r"[^A-Za-z0-9.-]+", "-", f"{host or socket.gethostname()}-{device}")


@contextmanager
def turn(
    device: str,
    environment: Mapping[str, str],
    *,
    label: str,
    locks: Path,
    check: Callable[[], None],
) -> Iterator[None]:
    """Wait until a device is free, and have it.

    A GPU is held by a slot of the Prefect server's limit of its name, which is made with one slot
    where there is none, and by a lock of this machine, for runs that report to no server. A CPU is
    held only where an operator made a limit of its name: without one, runs share its cores.

    Args:
        device: ``cpu`` or ``cuda``.
        environment: what the computing process's has beyond this one's.
        label: how the step is shown.
        locks: folder of this machine's lock files.
        check: called while waiting; raises if the run was interrupted.
    """
    name = limit_name(device_name(device, {**os.environ, **environment}))
    is_gpu, waiting = device == "cuda", _waiting(label, name, check)
    if not is_gpu:
        with server_slot(name, make=False, waiting=waiting):
            yield
        return
    # Who waits holds the door: who has just had the device cannot take it again before others.
    with (
        alone(locks / f"{name}.door.lock", waiting) as open_door,
        server_slot(name, make=True, waiting=waiting) as slot,
        holding(locks / f"{name}.lock", waiting, shared=slot),
    ):
        open_door()
        yield


def _waiting(label: str, name: str, check: Callable[[], None]) -> Waiting:
    """Return what is done about twice a second while others have the device."""
    told = [2.0]  # a shorter wait is not worth a line

    def wait(seconds: float) -> None:
        check()
        if seconds < told[0]:
            return
        told[0] = seconds + _TOLD
        hint = ""
        if seconds > _STUCK:
            hint = f"; if no run has it, free it with `prefect gcl update {name} --active-slots 0`"
        logger.info(
            "%s: waiting for %s, which another run uses (%.0f s)%s", label, name, seconds, hint
        )

    return wait
