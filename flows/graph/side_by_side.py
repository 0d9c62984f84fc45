"""Run functions side by side in threads, each within the flow run that it was called from."""

import contextvars
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TypeVar

T = TypeVar("T")
Precedence = tuple[int, ...]
Together = Callable[[Sequence[Callable[[], None]]], None]
"""Calls functions, in whatever order, and returns when all are done."""


def one_by_one(calls: Sequence[Callable[[], None]]) -> None:
    """Call functions one after another, as a plan does."""
    for call in calls:
        call()


class Turns:
    """So many functions at once in a whole comparison; whose place is lowest comes first.

    So its slots are busy as long as anything is left to do, and the method that comes first is
    done first.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._order = itertools.count()
        self._waiting: list[tuple[Precedence, int]] = []
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, place: Precedence) -> Iterator[None]:
        """Wait for a turn, and have it."""
        with self._changed:
            ticket = place, next(self._order)
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free > 0 and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            self._free -= 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()


_TURNS: ContextVar[Turns] = ContextVar("turns")


@contextmanager
def turns(at_once: int) -> Iterator[None]:
    """Let functions that are called `in_turn` inside share so many turns.

    Args:
        at_once: how many functions run at the same time, at least 1.
    """
    token = _TURNS.set(Turns(max(1, at_once)))
    try:
        yield
    finally:
        _TURNS.reset(token)


def in_turn(calls: Sequence[Callable[[], None]], *, place: Precedence) -> None:
    """Call functions side by side, each when it is its turn; the first error is raised.

    Args:
        calls: functions without arguments.
        place: of whoever calls them, among all that share the turns.
    """
    shared = _TURNS.get()

    def when_due(call: Callable[[], None]) -> None:
        with shared.turn(place):
            call()

    side_by_side([partial(when_due, call) for call in calls], at_once=len(calls))


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
