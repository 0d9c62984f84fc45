"""The seam below the shared tier: the few things that a service must do to hold one.

A backend knows names and bytes. It knows no keys, records or digests: what it answers is checked
by its callers, so it may be slow, forgetful or wrong, and nothing wrong comes of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """What a backend knows of one name.

    Attributes:
        name: ``/``-separated, relative to the tier.
        size: in bytes.
        modified: when it was last put, seconds since the epoch by the server's clock.
    """

    name: str
    size: int
    modified: float


@dataclass(frozen=True)
class TransferPart:
    """Some bytes of what lies under a name.

    Attributes:
        data: from the asked position on, at most as many as asked for.
        entry: of the whole.
    """

    data: bytes
    entry: Entry


class Backend(Protocol):
    """A place with names and bytes that several machines reach.

    Every method raises ``RemoteError`` if the place does not answer in time or refuses.
    """

    @property
    def url(self) -> str:
        """Where it is, without credentials: for messages."""

    def head(self, name: str) -> Entry | None:
        """Return size and age of what lies under a name, None if there is nothing."""

    def get(self, name: str, start: int, stop: int) -> TransferPart | None:
        """Return the bytes from ``start`` up to ``stop`` or the end, None if there is nothing.

        Large ones are read part by part, so a method never holds more than a part in memory.
        """

    def put(self, name: str, source: bytes | Path) -> None:
        """Put bytes, or a file's content, under a name; whatever was there is replaced at once.

        When it returns, the bytes are as durable as the service makes them.
        """

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Put bytes under a free name; of several callers at once, one succeeds.

        A service that cannot do this may put them all the same: ``probe`` finds that out.

        Returns:
            False if the name was, or may have been, taken. A reply that got lost looks like that
            too, so callers look who won.
        """

    def list(self, prefix: str) -> Iterator[Entry]:
        """List what lies below a folder, such as ``records/``, in any order."""

    def delete(self, name: str) -> None:
        """Take away what lies under a name; no error if there is nothing."""
