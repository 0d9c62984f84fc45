"""Small results to publish, and a process that publishes them; imports nothing heavy."""

from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

from artifacts.keys import KeyPayload
from artifacts.records import Record
from artifacts.store import Store


def payload(rank: int = 16, step: str = "decompose") -> KeyPayload:
    """A key payload that differs by rank and step."""
    return KeyPayload(step=step, version=1, config={"rank": rank}, inputs={})


def published(store: Store, rank: int = 16) -> Record:
    """Publish three small files under ``payload(rank)``."""
    return store.publish(
        payload(rank),
        {"u.bin": b"u" * 1000, "sub/s.json": b"{}", "empty": b""},
        facts={"energy": 0.5},
        provenance={"host": "here", "seconds": 1.5},
    )


def in_quarantine(store: Store) -> list[bytes]:
    """The bytes of every quarantined file."""
    return [p.read_bytes() for p in (store.root / "quarantine").iterdir()]


def publish_at_once(root: Path, text: bytes, count: int, barrier: Barrier, results: Queue) -> None:
    """Publish ``count`` keys, each at the same moment as the other processes at the barrier."""
    store = Store.open(root)
    for rank in range(count):
        barrier.wait()
        results.put((rank, store.publish(payload(rank), {"out": text + b"%d" % rank}).tree))
