"""How many requests a step costs a bucket: counted on the real store, with a bucket in memory."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.keys import KeyPayload
from artifacts.remote.backend import Entry, TransferPart
from artifacts.remote.bucket import Bucket
from artifacts.remote.tier import SharedTier
from artifacts.store import Store

FILES = 3
"""Of a result; a trained adapter has four, most others one to three."""
KINDS = {"head": "get", "get": "get", "put": "put", "put_if_absent": "put", "list": "put"}
"""Request → what it is billed as; a deletion costs nothing."""


@dataclass
class _Counting:
    """A bucket that counts what it is asked."""

    url: str = "memory://"
    files: dict[str, bytes] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    def head(self, name: str) -> Entry | None:
        self.asked["head"] += 1
        found = self.files.get(name)
        return None if found is None else Entry(name, len(found), 0.0)

    def get(self, name: str, start: int, stop: int) -> TransferPart | None:
        self.asked["get"] += 1
        found = self.files.get(name)
        if found is None:
            return None
        return TransferPart(found[start:stop], Entry(name, len(found), 0.0))

    def put(self, name: str, source: bytes | Path) -> None:
        self.asked["put"] += 1
        self.files[name] = source if isinstance(source, bytes) else source.read_bytes()

    def put_if_absent(self, name: str, data: bytes) -> bool:
        self.asked["put_if_absent"] += 1
        return self.files.setdefault(name, data) is data

    def list(self, prefix: str) -> Iterator[Entry]:
        self.asked["list"] += 1
        yield from (
            Entry(name, len(data), 0.0)
            for name, data in sorted(self.files.items())
            if name.startswith(prefix)
        )

    def delete(self, name: str) -> None:
        self.files.pop(name, None)


@dataclass(frozen=True)
class Requests:
    """What is asked of a bucket, as it is billed: ``put``, ``get``.

    Attributes:
        lookup: a plan's look at a step that is nowhere.
        computed: a step that is computed and published.
        brought: a result that another machine has published.
    """

    lookup: Counter[str]
    computed: Counter[str]
    brought: Counter[str]


def count_requests() -> Requests:
    """Publish a result from one store, and bring it to another."""
    with tempfile.TemporaryDirectory(prefix="paraknow-scale-") as folder:
        bucket = _Counting()
        stores = [Store.open(Path(folder, name)) for name in ("here", "there")]
        for store in stores:
            store.tier = SharedTier(Bucket(bucket), store.root, store.objects, store.ledger)
        payload = KeyPayload(step="finetune", version=1, config={}, inputs={})
        output = Path(folder, "output")
        output.mkdir()
        for n in range(FILES):
            (output / f"{n}.json").write_text(f"{n}", encoding="utf-8")
        here, there = stores
        here.record_elsewhere(payload.key())  # what is asked once a store is asked here
        lookup = _asked(bucket, lambda: here.record_elsewhere(payload.key()))

        def compute() -> None:
            here.lookup(payload.key())
            with here.lease(payload.key()):
                here.lookup(payload.key())
                here.publish(payload, output)

        computed = _asked(bucket, compute)
        brought = _asked(bucket, lambda: there.lookup(payload.key()))
        return Requests(lookup, computed, brought)


def _asked(bucket: _Counting, work: object) -> Counter[str]:
    bucket.asked.clear()
    assert callable(work)
    work()
    billed: Counter[str] = Counter()
    for request, count in bucket.asked.items():
        billed[KINDS[request]] += count
    return billed
