"""Where the bytes of a store are: by step, and by model."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from artifacts.disk.files import reading
from artifacts.names import Digest
from artifacts.queries.index import summaries
from artifacts.queries.lineage import Lineage, model_name
from artifacts.queries.summary import Summary
from artifacts.store import Store


@dataclass(frozen=True)
class GroupUsage:
    """What one group of results takes.

    Attributes:
        name: of the step or model.
        results: how many.
        bytes: of all their objects, each counted once.
        own_bytes: of those objects that no other group uses: what removing the group would free.
    """

    name: str
    results: int
    bytes: int
    own_bytes: int


@dataclass(frozen=True)
class Usage:
    """Where the bytes of a store are.

    Attributes:
        by_step: the largest first; every result is in one group.
        by_model: the largest first; a result counts for every model that it depends on.
        object_bytes: of all objects on the disk.
        unused_bytes: of those that no result needs.
    """

    by_step: list[GroupUsage]
    by_model: list[GroupUsage]
    object_bytes: int
    unused_bytes: int


def usage(store: Store, *, model_step: str) -> Usage:
    """Add up a store.

    Args:
        store: whose bytes are meant.
        model_step: name of the step whose results are the models.

    Raises:
        StoreIOError: if something could not be read.
    """
    lineage = Lineage(summaries(store))
    records = list(lineage.records.values())
    sizes = object_sizes(store)
    used = {digest for record in records for digest in record.objects()}

    def models(record: Summary) -> list[str]:
        found = lineage.depends_on(record, model_step)
        return [model_name(model) for model in found] or ["(no model)"]

    return Usage(
        by_step=_shares(records, sizes, lambda record: [record.step]),
        by_model=_shares(records, sizes, models),
        object_bytes=sum(sizes.values()),
        unused_bytes=sum(size for digest, size in sizes.items() if digest not in used),
    )


def object_sizes(store: Store) -> dict[Digest, int]:
    """Return digest -> bytes of every object that is on the disk."""
    with reading(store.root / "objects"):
        return dict(store.objects.sizes())


def _shares(
    records: Iterable[Summary], sizes: dict[Digest, int], names: Callable[[Summary], list[str]]
) -> list[GroupUsage]:
    counts: Counter[str] = Counter()
    objects: dict[str, set[Digest]] = {}
    for record in records:
        for name in names(record):
            counts[name] += 1
            objects.setdefault(name, set()).update(record.objects())
    groups: Counter[Digest] = Counter()
    for needed in objects.values():
        groups.update(needed)
    shares = [
        GroupUsage(
            name,
            counts[name],
            sum(sizes.get(digest, 0) for digest in needed),
            sum(sizes.get(digest, 0) for digest in needed if groups[digest] == 1),
        )
        for name, needed in objects.items()
    ]
    return sorted(shares, key=lambda share: (-share.bytes, share.name))
