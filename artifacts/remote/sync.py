"""Results to and from the bucket on request, each with all that it was made from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from artifacts.disk.files import writing
from artifacts.errors import CorruptObjectError, UnknownKeyError
from artifacts.names import StepKey, is_hex_digest
from artifacts.publishing import publish
from artifacts.queries.lineage import Lineage, inputs_first
from artifacts.records import Record
from artifacts.remote.bucket import Bucket
from artifacts.store import Store


@dataclass(frozen=True)
class Moved:
    """What became of one result.

    Attributes:
        record: that counts on the side that was given it.
        how: "new"; "present" for the same files; "kept" if that side has others under the same
            key, which stay.
    """

    record: Record
    how: str


def push(store: Store, bucket: Bucket, keys: Iterable[StepKey]) -> Iterator[Moved]:
    """Put results of a store into the bucket, inputs first; the first writer's stay.

    Args:
        store: that has them.
        bucket: to put them into.
        keys: of results of the store; what they were made from goes along.

    Yields:
        What became of each.

    Raises:
        RemoteError: if the bucket does not answer or refuses; what was put stays.
        CorruptObjectError: if an object is not whole here.
    """
    lineage = Lineage.of(store)
    for key in inputs_first(lineage, lineage.upstream(keys)):
        ours = store.lookup_here(key)
        if ours is None:
            raise CorruptObjectError(
                f"the result {key[:12]} is damaged here: `paraknow store verify` says how"
            )
        was_there = bucket.current(key)
        counts = bucket.publish(ours, store.objects, None)
        yield Moved(counts, _how(ours, counts, new=was_there is None))


def pull(store: Store, bucket: Bucket, keys: Iterable[StepKey]) -> Iterator[Moved]:
    """Bring results of the bucket into a store, inputs first; results that are here stay.

    Args:
        store: to bring them to.
        bucket: that has them.
        keys: of results of the bucket; what they were made from comes along, as far as it is there.

    Yields:
        What became of each.

    Raises:
        UnknownKeyError: if the bucket has no such result.
        CorruptObjectError: if an object is missing there, or has other bytes.
        RemoteError: if the bucket does not answer or refuses; what was brought stays.
    """
    lineage = Lineage(_upstream_there(bucket, keys).values())
    for key in inputs_first(lineage, set(lineage.records)):
        theirs = lineage.records[key]
        if (ours := store.lookup_here(key)) is not None:
            yield Moved(ours, _how(theirs, ours, new=False))
            continue
        yield Moved(_bring(store, bucket, theirs), "new")


def find_there(bucket: Bucket, prefix: str) -> StepKey:
    """Return the one key of a record in the bucket that starts with ``prefix``.

    Raises:
        UnknownKeyError: if there is none, or more than one.
        RemoteError: if the bucket does not answer or refuses.
    """
    if is_hex_digest(prefix):
        return StepKey(prefix)
    keys = sorted({key for key, _number, _entry in bucket.names() if key.startswith(prefix)})
    if len(keys) != 1 or not prefix:
        found = f"{len(keys)} records" if keys else "no record"
        raise UnknownKeyError(
            f"{found} in {bucket.backend.url} with a key that starts with {prefix!r}; give the "
            "whole key, as `paraknow store ls` shows it on the machine that has it"
        )
    return keys[0]


def _upstream_there(bucket: Bucket, keys: Iterable[StepKey]) -> Mapping[StepKey, Record]:
    """Read the records of keys, and of all that they were made from, as far as they are there."""
    found: dict[StepKey, Record] = {}
    asked = set(waiting := list(keys))
    while waiting:
        key = waiting.pop()
        current = bucket.current(key)
        if current is None or current.record is None:
            if key in keys:
                raise UnknownKeyError(f"{bucket.backend.url} has no result {key[:12]}")
            continue
        found[key] = current.record
        made_from = {i.key for i in Lineage([current.record]).inputs(current.record)} - {None}
        new = {key for key in made_from if key is not None} - asked
        asked |= new
        waiting += sorted(new)
    return found


def _bring(store: Store, bucket: Bucket, theirs: Record) -> Record:
    def fetched() -> Record:
        if not bucket.fetch(theirs, store.objects):
            raise CorruptObjectError(
                f"{theirs.step} {theirs.key[:12]} is damaged in {bucket.backend.url}: an object is "
                "missing or has other bytes. Push it again from a machine that has it"
            )
        return replace(theirs, generation=0)

    with writing(store.root):
        return publish(store.objects, store.ledger, theirs.key, fetched, None)


def _how(given: Record, counts: Record, *, new: bool) -> str:
    if given.tree != counts.tree:
        return "kept"
    return "new" if new else "present"
