"""Taking away, batch by batch, what no run has come to use since a collection was planned."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from artifacts.care.pins import keys_in_use
from artifacts.errors import StoreBusyError
from artifacts.ledger import Ledger
from artifacts.live import taking
from artifacts.names import Digest, StepKey
from artifacts.queries.lineage import Lineage
from artifacts.queries.summary import Result, Summary
from artifacts.store import Store

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BATCH: Final = 64
"""Few enough that a run which wants to note what it uses waits for some milliseconds only."""


@contextlib.contextmanager
def only_one(store: Store) -> Iterator[None]:
    """Keep a second collection out; two would do no harm, but the work twice.

    Raises:
        StoreBusyError: if another one is under way.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(store.root / "leases" / "gc.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreBusyError(
            f"another collection is under way in {store.root}; wait until it ends"
        ) from error
    except (OSError, NotImplementedError) as error:
        _log.warning("no lock on %s (%s); carrying on without", lock.lock_file, error)
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class InUse:
    """What live processes use at this moment.

    Attributes:
        keys: of the results, those included that these were made from.
        trees: their outputs, of every generation: a run may read one that was replaced since.
        objects: that all of these need.
    """

    keys: frozenset[StepKey]
    trees: frozenset[Digest]
    objects: frozenset[Digest]


def batches(
    store: Store, lineage: Lineage[Summary], now: float, items: Sequence[T]
) -> Iterator[tuple[InUse, T]]:
    """Yield each item with what is in use; until the next is asked for, that cannot become more.

    Args:
        store: that is collected.
        lineage: of its records when the collection was planned.
        now: seconds since the epoch by the store's own clock.
        items: that are to be taken away, unless they are in use.

    Raises:
        StoreBusyError: if a process stands still while it notes what it uses.
        StoreIOError: if what is in use cannot be read.
    """
    for start in range(0, len(items), _BATCH):
        with taking(store.root):
            used = _in_use(store, lineage, now)
            for item in items[start : start + _BATCH]:
                yield used, item


def _in_use(store: Store, lineage: Lineage[Summary], now: float) -> InUse:
    named = keys_in_use(store, now)[0]
    newest = {key: _newest(store.ledger, key, lineage.records.get(key)) for key in sorted(named)}
    changed = {key: r for key, r in newest.items() if r is not lineage.records.get(key)}
    known: dict[StepKey, Result] = {**lineage.records}
    known |= {key: record for key, record in changed.items() if record is not None}
    above = Lineage(known.values()) if changed else lineage
    keys = above.upstream(named) | named
    records = [known[key] for key in keys if key in known]
    for key in named:
        if key in known and known[key].generation:
            records += store.ledger.all_generations(key)
    return InUse(
        keys=frozenset(keys),
        trees=frozenset(record.tree for record in records),
        objects=frozenset(digest for record in records for digest in record.objects()),
    )


def _newest(ledger: Ledger, key: StepKey, planned: Summary | None) -> Result | None:
    """Return the record of a key, read again only if it has another one since the plan."""
    if planned is not None and ledger.generations(key) == planned.generation + 1:
        return planned
    found = ledger.current(key)
    return found.record if found is not None else None
