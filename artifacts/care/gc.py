"""Garbage collection: what may be removed and why, and removing it while others publish.

The roots are the named pins, what live runs use, what the policy keeps by step or key, and
everything these were made from. Any other result is judged by its own last use; without a limit of
age or size all results stay, and only what no result needs goes.
"""

import contextlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from artifacts.care.pins import keys_in_use, pins
from artifacts.care.roots import roots
from artifacts.care.sweep import Leftover, leftovers, measure, sweep
from artifacts.care.take import batches, only_one
from artifacts.care.trash import Trash, object_in, record_in, still_needed
from artifacts.names import Digest
from artifacts.queries.index import summaries
from artifacts.queries.lineage import Lineage
from artifacts.queries.summary import Result, Summary
from artifacts.queries.usage import object_sizes
from artifacts.store import Store

GRACE_SECONDS: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a collection may remove.

    Attributes:
        keep: names of steps, and first digits of keys, whose results stay with all they were made
            from.
        older_than: remove results that were last used more than these seconds ago; None: no limit.
        max_bytes: remove the least recently used results until the objects take no more than this;
            None: no limit.
        grace: seconds for which anything is left alone after its last change or use.
    """

    keep: frozenset[str] = frozenset()
    older_than: float | None = None
    max_bytes: int | None = None
    grace: float = GRACE_SECONDS


@dataclass(frozen=True)
class Doomed:
    """A result that goes.

    Attributes:
        record: of the result, in summary.
        used: seconds since the epoch when it was last used.
        why: "age" or "size".
    """

    record: Summary
    used: float
    why: str


@dataclass(frozen=True)
class CollectionPlan:
    """What a collection would remove.

    Attributes:
        now: the store's clock when it was made, seconds since the epoch.
        records: results that go, the least recently used first.
        objects: digest -> bytes of objects that no kept result needs.
        leftovers: drafts, abandoned work and derived files that go.
        kept: how many results stay.
        kept_bytes: of all objects that stay.
        excess: bytes by which these still exceed the policy's ``max_bytes``.
        lineage: of all records when it was made.
    """

    now: float
    lineage: Lineage[Summary] = field(repr=False)
    records: list[Doomed] = field(default_factory=list)
    objects: dict[Digest, int] = field(default_factory=dict)
    leftovers: list[Leftover] = field(default_factory=list)
    kept: int = 0
    kept_bytes: int = 0
    excess: int = 0

    @property
    def bytes(self) -> int:
        """All that would be freed."""
        return sum(self.objects.values()) + sum(item.bytes for item in self.leftovers)


@dataclass(frozen=True)
class Collected:
    """What a collection removed.

    Attributes:
        records: results that went.
        objects: objects that went.
        bytes: that were freed, leftovers included.
        restored: objects and results that were put back because somebody came to need them.
    """

    records: int
    objects: int
    bytes: int
    restored: int


def plan(store: Store, policy: Policy) -> CollectionPlan:
    """Find out what may go; nothing is changed.

    Most of what records say may come from the index (``artifacts.queries.index``); nothing is
    deleted by it alone.

    Raises:
        UnknownKeyError: if the policy keeps something that is no step and no key here.
        StoreIOError: if something could not be read.
    """
    now = store_clock(store)
    lineage = Lineage(summaries(store))
    sizes = object_sizes(store)
    doomed = _choose(store, lineage, policy, now, sizes)
    gone = {item.record.key for item in doomed}
    kept = [record for key, record in lineage.records.items() if key not in gone]
    needed = {digest for record in kept for digest in record.objects()}
    objects = {
        digest: size
        for digest, size in sizes.items()
        if digest not in needed and _unchanged(store, digest, now, policy.grace)
    }
    stay = sum(sizes.values()) - sum(objects.values())
    return CollectionPlan(
        now=now,
        lineage=lineage,
        records=doomed,
        objects=objects,
        leftovers=leftovers(store, now=now, grace=policy.grace, trees={r.tree for r in kept}),
        kept=len(kept),
        kept_bytes=stay,
        excess=max(0, stay - policy.max_bytes) if policy.max_bytes is not None else 0,
    )


def collect(store: Store, policy: Policy) -> tuple[CollectionPlan, Collected]:
    """Remove what may be removed, while any number of readers and publishers run.

    Killed at any point it leaves at most a full trash folder, which the next collection empties
    and out of which readers help themselves. It needs no room on the disk.

    Raises:
        StoreBusyError: if another collection is under way.
        StoreReadOnlyError: if the store cannot be written to.
        StoreIOError, UnknownKeyError: as for ``plan``.
    """
    if store.read_only:
        store.check_writable()
    with only_one(store):
        trash = Trash(store)
        restored = _empty(store, trash)[0]
        made = plan(store, policy)
        freed = sweep(trash, [item for item in made.leftovers if item.kind != "views"])
        records = _take(store, trash, made, policy)
        again, objects, of_objects = _empty(store, trash)
        return made, Collected(records, objects, freed + of_objects, restored + again)


def _take(store: Store, trash: Trash, made: CollectionPlan, policy: Policy) -> int:
    """Move what was planned to the trash, except for what a live process has come to use.

    What such a process was handed must not be gone for a moment: it opens files when it likes.

    Returns:
        How many results went.
    """
    records = 0
    for used, item in batches(store, made.lineage, made.now, made.records):
        if item.record.key not in used.keys:
            records += _remove_record(store, trash, item)
    for used, digest in batches(store, made.lineage, made.now, list(made.objects)):
        if digest not in used.objects and _unchanged(store, digest, made.now, policy.grace):
            trash.put_object(digest)
            store.stamps.forget(digest)
    views = [item.path for item in made.leftovers if item.kind == "views"]
    for used, view in batches(store, made.lineage, made.now, views):
        if Digest(view.name) not in used.trees:
            trash.put_other(view)
    return records


def store_clock(store: Store) -> float:
    """Return the time by the store's file system, in seconds since the epoch.

    A file server's clock may be minutes off, and ages are measured against what it wrote. Needs no
    free space.
    """
    with contextlib.suppress(OSError):
        if not store.read_only:
            os.utime(store.root / "tmp")
            return (store.root / "tmp").stat().st_mtime
    return time.time()


def _choose(
    store: Store, lineage: Lineage[Summary], policy: Policy, now: float, sizes: dict[Digest, int]
) -> list[Doomed]:
    """Choose the results that go, the least recently used first."""
    staying = lineage.upstream(roots(store, lineage, policy.keep, now))
    if policy.older_than is None and policy.max_bytes is None:
        return []
    free = [
        (record.used, record)
        for key, record in lineage.records.items()
        if key not in staying and now - record.used >= policy.grace
    ]
    free.sort(key=lambda pair: (pair[0], pair[1].key))
    users = Counter(d for record in lineage.records.values() for d in record.objects())
    total = sum(size for digest, size in sizes.items() if users[digest])
    doomed = []
    for used, record in free:
        too_old = policy.older_than is not None and now - used > policy.older_than
        too_much = policy.max_bytes is not None and total > policy.max_bytes
        if too_old or too_much:
            doomed.append(Doomed(record, used, "age" if too_old else "size"))
            for digest in record.objects():
                users[digest] -= 1
                total -= sizes.get(digest, 0) if not users[digest] else 0
    return doomed


def _unchanged(store: Store, digest: Digest, now: float, grace: float) -> bool:
    return now - measure(store.objects.path(digest))[0] >= grace


def _remove_record(store: Store, trash: Trash, item: Doomed) -> bool:
    """Move one result's records to the trash, unless it was used or changed meanwhile.

    Its record is read again: the plan may have been made by an index.
    """
    record = store.lookup_record(item.record.key)
    if record is None or Summary.of(record, item.used) != item.record:
        return False
    if store.ledger.last_used(record) != item.used:
        return False
    return trash.put_record(item.record.key, item.record.generation + 1)


def _empty(store: Store, trash: Trash) -> tuple[int, int, int]:
    """Put back from the trash what is needed, and delete the rest for good.

    The order carries the promise: first what is in the trash is listed, then pins and records are
    read, and only what was listed is deleted.

    Returns:
        How many things were put back, how many objects deleted, and the bytes deleted.
    """
    content = trash.content()
    if not content:
        return 0, 0, 0
    restored = _restore_pinned(store, trash, content)
    needed = still_needed(store, {d for path in content if (d := object_in(path)) is not None})
    objects = freed = 0
    for path in content:
        digest = object_in(path)
        if digest is not None and digest in needed:
            restored += store.objects.restore(digest)
            continue
        size = measure(path)[1]
        trash.delete(path)
        objects += digest is not None
        freed += size if digest is not None or record_in(path) is None else 0
    return restored, objects, freed


def _restore_pinned(store: Store, trash: Trash, content: list[Path]) -> int:
    """Put back the results in the trash that a pin came to need since they were chosen."""
    trashed = [record for path in content if (record := trash.record(path)) is not None]
    if not trashed:
        return 0
    results: list[Result] = [*trashed, *summaries(store)]
    lineage = Lineage(results)
    wanted = lineage.upstream({*pins(store).values(), *keys_in_use(store, store_clock(store))[0]})
    keys = {record.key for record in trashed} & wanted
    for key in sorted(keys):
        trash.restore_record(key)
    return len(keys)
