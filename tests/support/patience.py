"""How long tests wait for something that must happen; a shared machine may stall for minutes."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 600.0  # seconds
Found = TypeVar("Found")


def wait_until(
    what: str,
    found: Callable[[], Found],
    *,
    seconds: float = PATIENCE,
    every: float = 0.1,
    otherwise: Callable[[], str] = str,
) -> Found:
    """The first true answer of ``found``; without one, an assertion fails with ``otherwise()``."""
    until = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < until, f"not within {seconds:.0f} s: {what}\n{otherwise()}"
        time.sleep(every)
    return answer
