"""What a result was made from, up to models and data, and what was made from it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from artifacts.names import Digest, StepKey, is_hex_digest
from artifacts.records import Record
from artifacts.store import Store


@dataclass(frozen=True)
class Input:
    """One input of a result.

    Attributes:
        role: what the step calls it.
        digest: of its content.
        record: the stored result that it is, None for a file from outside or a collected result.
        step: the step that made it, "" for something from outside the store.
        key: that step's key, None for something from outside.
    """

    role: str
    digest: str
    record: Record | None
    step: str = ""
    key: StepKey | None = None


class Lineage:
    """All records of a store and how they hang together; reads each once.

    Args:
        records: of one store.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.records: Mapping[StepKey, Record] = {record.key: record for record in records}
        self._by_tree: dict[Digest, list[Record]] = {}
        for record in self.records.values():
            self._by_tree.setdefault(record.tree, []).append(record)
        self._users: dict[StepKey, list[Record]] | None = None

    @classmethod
    def of(cls, store: Store) -> "Lineage":
        """Read the lineage of all records in a store."""
        return cls(store.records())

    def inputs(self, record: Record) -> list[Input]:
        """List what a result was made from, in role order.

        The provenance says which results these were; an input that it does not name is looked for
        by its digest, and is a model's or data set's files if no result has it.
        """
        said = record.provenance.get("inputs")
        named = [
            self._named(role, value)
            for role, value in (said.items() if isinstance(said, dict) else ())
            if isinstance(value, dict)
        ]
        roles = {found.role for found in named}
        others = [
            self._by_digest(role, digest)
            for role, digest in record.payload.inputs.items()
            if role not in roles and role.partition(".")[0] not in roles
        ]
        return sorted([*named, *others], key=lambda found: found.role)

    def users(self, record: Record) -> list[Record]:
        """List the results that were made directly from one, in key order."""
        if self._users is None:
            self._users = {}
            for user in self.records.values():
                for key in {i.record.key for i in self.inputs(user) if i.record is not None}:
                    self._users.setdefault(key, []).append(user)
        return sorted(self._users.get(record.key, []), key=lambda user: user.key)

    def upstream(self, keys: Iterable[StepKey]) -> set[StepKey]:
        """Return the stored ones of ``keys`` and of everything that they were made from."""
        found: set[StepKey] = set()
        waiting = [key for key in keys if key in self.records]
        while waiting:
            key = waiting.pop()
            if key not in found:
                found.add(key)
                made_from = self.inputs(self.records[key])
                waiting += [i.record.key for i in made_from if i.record is not None]
        return found

    def depends_on(self, record: Record, step: str) -> list[Record]:
        """Return a result, and those that it was made from, as far as ``step`` made them.

        Args:
            record: of the result.
            step: the name of a step.

        Returns:
            Their records, in key order.
        """
        above = (self.records[key] for key in sorted(self.upstream([record.key])))
        return [found for found in above if found.step == step]

    def walk(self, record: Record) -> Iterator[tuple[int, Input]]:
        """Yield (depth, input) of the whole tree above a record, depth first.

        An input that was shown before is shown again, but not what is above it.
        """
        seen: set[StepKey] = set()

        def below(user: Record, depth: int) -> Iterator[tuple[int, Input]]:
            for found in self.inputs(user):
                yield depth, found
                if found.record is not None and found.record.key not in seen:
                    seen.add(found.record.key)
                    yield from below(found.record, depth + 1)

        yield from below(record, 1)

    def _named(self, role: str, said: Mapping[str, object]) -> Input:
        key, digest, step = said.get("key"), str(said.get("digest", "")), str(said.get("step", ""))
        if not is_hex_digest(key):
            return self._by_digest(role, digest)
        known = StepKey(str(key))
        return Input(role, digest, self.records.get(known), step, known)

    def _by_digest(self, role: str, digest: str) -> Input:
        found = self._by_tree.get(Digest(digest), [])
        if not found:
            return Input(role, digest, None)
        return Input(role, digest, found[0], found[0].step, found[0].key)


def inputs_first(lineage: Lineage, wanted: set[StepKey]) -> list[StepKey]:
    """Order keys so that whoever is stopped leaves no result without what it was made from."""
    order: dict[StepKey, None] = {}
    waiting = sorted(wanted, reverse=True)
    opened: set[StepKey] = set()
    while waiting:
        key = waiting[-1]
        above = (
            []
            if key in opened
            else [
                i.record.key for i in lineage.inputs(lineage.records[key]) if i.record is not None
            ]
        )
        opened.add(key)
        missing = sorted(k for k in above if k in wanted and k not in order and k not in opened)
        if missing:
            waiting += missing
        else:
            order.setdefault(waiting.pop())
    return list(order)


def model_name(record: Record) -> str:
    """Describe an acquired model by what its record holds: kind, size, and its key's first digits.

    Where it was loaded from is no part of what it is.
    """
    kind = str(record.facts.get("model_type", "model"))
    count = record.facts.get("parameters")
    size = f" {count / 1e6:,.1f}M" if isinstance(count, int) else ""
    return f"{kind}{size} {record.key[:12]}"
