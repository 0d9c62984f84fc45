"""What a backend can do, found out by trying; and the time by its server's clock."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from artifacts.errors import RemoteError
from artifacts.remote.backend import Backend

PROBES: Final = "probe/"
_DATA: Final = b"paraknow looks what this place can do"


@dataclass(frozen=True)
class ServerClock:
    """The time by the server's clock, carried on by one of this machine that nobody sets.

    Ages of what lies on the server are told by it alone: this machine's date may be off by days.

    Attributes:
        at: seconds since the epoch by the server, when it was asked.
        since: what ``clock`` said then.
        clock: seconds that only go forward.
    """

    at: float
    since: float
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def now(self) -> float:
        """Return the server's time, a second exact."""
        return self.at + self.clock() - self.since


@dataclass(frozen=True)
class Capabilities:
    """What a backend was seen to do.

    Attributes:
        conditional: whether putting under a taken name fails, so that the first writer wins.
        ranges: whether a part of a file can be asked for.
        lists: whether a name is listed as soon as it is there.
        clock: the server's.
    """

    conditional: bool
    ranges: bool
    lists: bool
    clock: ServerClock


def probe(backend: Backend, *, clock: Callable[[], float] = time.monotonic) -> Capabilities:
    """Try out, with a small file that is deleted again, what a backend can do.

    Raises:
        RemoteError: if it cannot be written to, or does not give back what was put.
    """
    name = f"{PROBES}{secrets.token_hex(8)}"
    try:
        backend.put_if_absent(name, _DATA)
        put_at = clock()
        whole = backend.get(name, 0, len(_DATA))
        if whole is None or whole.data != _DATA:
            raise RemoteError(f"{backend.url} does not give back what was just put there")
        # Some servers ignore the condition, and some say that they refused and write anyway.
        refused = not backend.put_if_absent(name, _DATA[::-1])
        part = backend.get(name, 9, 14)
        return Capabilities(
            conditional=refused and part is not None and part.data in (_DATA[9:14], _DATA),
            ranges=part is not None and part.data in (_DATA[9:14], _DATA[::-1][9:14]),
            lists=any(entry.name == name for entry in backend.list(PROBES)),
            clock=ServerClock(whole.entry.modified, put_at, clock),
        )
    finally:
        backend.delete(name)
