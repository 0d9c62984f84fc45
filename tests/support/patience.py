"""How long tests wait for what must come; a machine that is shared stands still for minutes."""

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 600.0  # seconds
Found = TypeVar("Found")


def wait_until(what: str, found: Callable[[], Found], *, every: float = 0.1) -> Found:
    """The first true answer of ``found``; an assertion fails when none comes."""
    until = time.monotonic() + PATIENCE
    while not (answer := found()):
        assert time.monotonic() < until, f"{what} did not come within {PATIENCE:.0f} s"
        time.sleep(every)
    return answer
