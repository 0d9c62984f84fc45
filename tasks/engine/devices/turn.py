"""A device computes for one run at a time: runs on one machine take turns, step by step.

A run whose steps are all stored asks for no device, so nothing keeps it waiting.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from paraknow_core.errors import ConfigError
from tasks.engine.devices.locks import Waiting, alone, holding
from tasks.engine.devices.server_slot import server_slot
from tasks.engine.progress import logger

_TOLD: Final = 15.0
_STUCK: Final = 600.0
"""Seconds after which it is said how a slot is freed that nobody has."""


def gpus_of(environment: Mapping[str, str], count: int) -> tuple[str, ...]:
    """Return the first so many GPUs that a process is shown, by number or id.

    Args:
        environment: of the process. Without CUDA_VISIBLE_DEVICES it is shown all of the machine.
        count: how many it computes on.

    Raises:
        ConfigError: if it is shown fewer.
    """
    told = environment.get("CUDA_VISIBLE_DEVICES", "")
    shown = list(dict.fromkeys(one.strip() for one in told.split(",") if one.strip()))
    if shown and len(shown) < count:
        raise ConfigError(
            f"processes is {count}, each on a GPU of its own, but CUDA_VISIBLE_DEVICES shows "
            f"{len(shown)} here ({told}). Show as many, or lower processes."
        )
    return tuple(shown[:count]) or tuple(map(str, range(count)))


def device_names(device: str, environment: Mapping[str, str], count: int = 1) -> tuple[str, ...]:
    """Name the devices that a step computes on, within their machine, in one order for all steps.

    Args:
        device: ``cpu`` or ``cuda``.
        environment: of the process that computes. Steps use the first GPUs that it shows.
        count: of GPUs.

    Returns:
        ``cpu``, or ``gpu`` with the number or id that CUDA_VISIBLE_DEVICES has, of each.
    """
    if device != "cuda":
        return ("cpu",)
    return tuple(sorted(f"gpu{gpu}" for gpu in gpus_of(environment, count)))


def limit_name(device: str, host: str = "") -> str:
    """Name a device among all machines: what its global concurrency limit is called.

    Args:
        device: as `device_names` gives it.
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
    count: int = 1,
) -> Iterator[None]:
    """Wait until a device is free, and have it; or several GPUs, one after another.

    A GPU is held by a slot of the Prefect server's limit of its name, which is made with one slot
    where there is none, and by a lock of this machine, for runs that report to no server. A CPU is
    held only where an operator made a limit of its name: without one, runs share its cores.

    Whoever takes several GPUs takes them in the same order, so no two wait for each other.

    Args:
        device: ``cpu`` or ``cuda``.
        environment: what the computing process's has beyond this one's.
        label: how the step is shown.
        locks: folder of this machine's lock files.
        check: called while waiting; raises if the run was interrupted.
        count: of GPUs.

    Raises:
        ConfigError: if fewer GPUs are shown.
    """
    with ExitStack() as held:
        for name in map(limit_name, device_names(device, {**os.environ, **environment}, count)):
            waiting = _waiting(label, name, check)
            if device == "cuda":
                held.enter_context(_gpu(name, locks, waiting))
            else:
                held.enter_context(server_slot(name, make=False, waiting=waiting))
        yield


@contextmanager
def _gpu(name: str, locks: Path, waiting: Waiting) -> Iterator[None]:
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
