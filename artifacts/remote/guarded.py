"""A backend that may be down: after a failure it is left alone for a while.

Else each of a thousand lookups would wait for a timeout of its own.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from artifacts.errors import RemoteError
from artifacts.remote.backend import Backend, Entry, TransferPart

T = TypeVar("T")

_FIRST_PAUSE: Final = 30.0
_LONGEST_PAUSE: Final = 600.0
_log = logging.getLogger(__name__)


class GuardedBackend:
    """Passes calls on to a backend, unless it failed a short time ago.

    The backend itself tries each request several times, so one failure is enough. The first is
    told as a warning; when the backend answers again, that is told as well.

    Args:
        backend: that is asked.
        clock: seconds that only go forward.
    """

    def __init__(self, backend: Backend, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._clock = clock
        self._lock = threading.Lock()
        self._pause = 0.0
        self._until = 0.0
        self._why = ""

    @property
    def url(self) -> str:
        """Where the backend is."""
        return self._backend.url

    def head(self, name: str) -> Entry | None:
        """As the backend does."""
        return self._ask(lambda: self._backend.head(name))

    def get(self, name: str, start: int, stop: int) -> TransferPart | None:
        """As the backend does."""
        return self._ask(lambda: self._backend.get(name, start, stop))

    def put(self, name: str, source: bytes | Path) -> None:
        """As the backend does."""
        self._ask(lambda: self._backend.put(name, source))

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """As the backend does."""
        return self._ask(lambda: self._backend.put_if_absent(name, data))

    def list(self, prefix: str) -> Iterator[Entry]:
        """As the backend does."""
        found = self._ask(lambda: iter(self._backend.list(prefix)))
        while (entry := self._ask(lambda: next(found, None))) is not None:
            yield entry

    def delete(self, name: str) -> None:
        """As the backend does."""
        self._ask(lambda: self._backend.delete(name))

    def _ask(self, question: Callable[[], T]) -> T:
        with self._lock:
            if self._clock() < self._until:
                raise RemoteError(self._why)
            if self._pause:
                # One caller tries whether it is back; the others do not wait for that.
                self._until = self._clock() + self._pause
        try:
            answer = question()
        except RemoteError as error:
            self._failed(error)
            raise
        self._answered()
        return answer

    def _failed(self, error: RemoteError) -> None:
        with self._lock:
            first = not self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE) or _FIRST_PAUSE
            self._until, self._why = self._clock() + self._pause, str(error)
        if first:
            _log.warning(
                "the shared tier %s is not used for now: %s This run goes on with its own store; "
                "`paraknow store push KEY` shares its results later",
                self.url,
                error if str(error).endswith((".", "?")) else f"{error}.",
            )

    def _answered(self) -> None:
        with self._lock:
            back, self._pause, self._until = bool(self._pause), 0.0, 0.0
        if back:
            _log.warning("the shared tier %s answers again", self.url)
