"""Garbage collection of the bucket: what may go and why, by the server's clock.

The roots are the same as in a store: what is pinned or in use *here*, what is kept by step or key,
and everything these were made from. A bucket does not know who reads it, so a result's age counts
from when it was put there. Without a limit of age every result stays.

No lock and no trash is needed: an object is put again by whoever publishes a record over it and
finds it older than half of the grace period (``Bucket.send``), so what is old and needed by no
record is not about to be needed either.
"""

from dataclasses import dataclass, field
from typing import Final

from artifacts.canonical import Json
from artifacts.care.gc import store_clock
from artifacts.care.roots import roots
from artifacts.names import Digest, StepKey
from artifacts.queries.lineage import Lineage
from artifacts.records import Record
from artifacts.remote.bucket import Bucket
from artifacts.remote.lease import LEASES
from artifacts.remote.probe import PROBES
from artifacts.store import Store

GRACE_SECONDS: Final = 86400.0
_LEFTOVERS: Final = (LEASES, PROBES)


@dataclass(frozen=True, kw_only=True)
class RemotePolicy:
    """What a collection of the bucket may remove.

    Attributes:
        keep: names of steps, and first digits of keys, whose results stay with all they were made
            from.
        older_than: remove results that were put more than these seconds ago; None: no limit.
        grace: seconds for which anything is left alone after it was put.
    """

    keep: frozenset[str] = frozenset()
    older_than: float | None = None
    grace: float = GRACE_SECONDS


@dataclass(frozen=True)
class RemotePlan:
    """What a collection of the bucket would remove.

    Attributes:
        records: results that go, the oldest first, each with its last generation's number.
        objects: digest -> bytes of objects that no kept result needs.
        leftovers: names of old leases and probes.
        kept: how many results stay.
    """

    records: list[tuple[Record, int]] = field(default_factory=list)
    objects: dict[Digest, int] = field(default_factory=dict)
    leftovers: list[str] = field(default_factory=list)
    kept: int = 0

    def as_json(self) -> dict[str, Json]:
        """Return it as plain JSON values."""
        return {
            "records": [{"key": str(r.key), "step": r.step} for r, _number in self.records],
            "objects": {str(digest): size for digest, size in self.objects.items()},
            "leftovers": list(self.leftovers),
            "kept": self.kept,
        }


def plan_remote(store: Store, bucket: Bucket, policy: RemotePolicy) -> RemotePlan:
    """Find out what may go from the bucket; nothing is changed.

    Args:
        store: whose pins and runs are roots.
        bucket: to look into.
        policy: what may go.

    Raises:
        RemoteError: if the bucket does not answer or refuses.
        UnknownKeyError: if the policy keeps something that is no step and no key there.
        StoreFormatError: if a record there was written by a newer version.
    """
    now = bucket.capabilities.clock.now()
    # Objects are listed before records are read: what a record needs that comes later is young.
    old = {d: e.size for d, e in bucket.object_entries() if now - e.modified >= policy.grace}
    put: dict[StepKey, float] = {}
    for key, _number, entry in bucket.names():
        put[key] = max(put.get(key, 0.0), entry.modified)
    found = {key: current for key in put if (current := bucket.current(key)) is not None}
    lineage = Lineage(c.record for c in found.values() if c.record is not None)
    staying = lineage.upstream(roots(store, lineage, policy.keep, store_clock(store)))
    doomed = [
        (put[key], record, found[key].generation)
        for key, record in lineage.records.items()
        if key not in staying and policy.older_than is not None
        if now - put[key] >= max(policy.grace, policy.older_than)
    ]
    gone = {record.key for _put, record, _number in doomed}
    needed = {d for k, r in lineage.records.items() if k not in gone for d in r.objects()}
    return RemotePlan(
        records=[(r, n) for _put, r, n in sorted(doomed, key=lambda d: (d[0], d[1].key))],
        objects={digest: size for digest, size in old.items() if digest not in needed},
        leftovers=[
            entry.name
            for folder in _LEFTOVERS
            for entry in bucket.backend.list(folder)
            if now - entry.modified >= policy.grace
        ],
        kept=len(lineage.records) - len(gone),
    )


def collect_remote(store: Store, bucket: Bucket, policy: RemotePolicy) -> RemotePlan:
    """Remove from the bucket what may go: records first, so that none points at what is gone.

    Returns:
        What was removed.

    Raises:
        RemoteError, UnknownKeyError, StoreFormatError: as for ``plan_remote``; running it again
            goes on.
    """
    made = plan_remote(store, bucket, policy)
    for record, generation in made.records:
        bucket.remove(record.key, generation)
    removed = {}
    for digest, size in made.objects.items():
        if bucket.remove_object(digest, older_than=policy.grace):
            removed[digest] = size
    for name in made.leftovers:
        bucket.backend.delete(name)
    return RemotePlan(made.records, removed, made.leftovers, made.kept)
