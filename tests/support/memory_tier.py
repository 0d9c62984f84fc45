"""A shared tier in memory with a clock set by hand, beside the example of docs/architecture.md."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.errors import RemoteError
from artifacts.remote.backend import Entry, TransferPart
from artifacts.remote.bucket import Bucket
from artifacts.remote.tier import SharedTier
from artifacts.store import Store


@dataclass
class Memory:
    """Name -> bytes and time of putting.

    Attributes:
        now: the server's time.
        down: whether it does not answer.
        conditional: whether it keeps what is under a taken name.
        asked: how many requests came.
        names: what they asked for.
        largest: the most bytes asked for or given at once.
    """

    url: str = "memory://"
    files: dict[str, tuple[bytes, float]] = field(default_factory=dict)
    now: float = 1e9
    down: bool = False
    conditional: bool = True
    asked: int = 0
    names: list[str] = field(default_factory=list)
    largest: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def _ask(self, name: str) -> tuple[bytes, float] | None:
        self.asked += 1
        self.names.append(name)
        if self.down:
            raise RemoteError("nobody answers")
        return self.files.get(name)

    def head(self, name: str) -> Entry | None:
        found = self._ask(name)
        return found and Entry(name, len(found[0]), found[1])

    def get(self, name: str, start: int, stop: int) -> TransferPart | None:
        found = self._ask(name)
        if found is None:
            return None
        data = found[0][start:stop]
        self.largest = max(self.largest, len(data))
        return TransferPart(data, Entry(name, len(found[0]), found[1]))

    def put(self, name: str, source: bytes | Path) -> None:
        self._ask(name)
        data = source if isinstance(source, bytes) else source.read_bytes()
        self.files[name] = (data, self.now)

    def put_if_absent(self, name: str, data: bytes) -> bool:
        with self.lock:
            if self._ask(name) is not None and self.conditional:
                return False
            self.files[name] = (data, self.now)
            return True

    def list(self, prefix: str) -> Iterator[Entry]:
        self._ask(prefix)
        for name, (data, modified) in sorted(self.files.items()):
            if name.startswith(prefix):
                yield Entry(name, len(data), modified)

    def delete(self, name: str) -> None:
        self._ask(name)
        self.files.pop(name, None)


def sharing(folder: Path, backend: Memory) -> Store:
    """Open a store that shares by a backend, as another process or machine would."""
    store = Store.open(folder)
    store.tier = SharedTier(Bucket(backend), store.root, store.objects, store.ledger)
    return store
