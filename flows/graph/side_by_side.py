"""Run functions side by side in threads, each within the flow run that it was called from."""

import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def side_by_side(
    calls: Sequence[Callable[[], T]],
    *,
    at_once: int,
    on_interrupt: Callable[[], None] = lambda: None,
) -> list[T]:
    """Call all functions, ``at_once`` at a time, and return their results in order.

    Threads see the context of the caller, so a flow called in one is a sub-flow. The first error
    is raised once those under way have ended; calls that have not begun are dropped.

    Args:
        calls: functions without arguments.
        at_once: how many threads.
        on_interrupt: called at the first error, or when this thread is interrupted: ends what the
            other threads wait for.
    """
    with ThreadPoolExecutor(max_workers=max(1, at_once)) as pool:
        futures = [pool.submit(contextvars.copy_context().run, call) for call in calls]
        try:
            return [future.result() for future in futures]
        except BaseException:
            on_interrupt()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
