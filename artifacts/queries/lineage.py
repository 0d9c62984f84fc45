"""What a result was made from, up to models and data, and what was made from it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from artifacts.names import Digest, StepKey, is_hex_digest
from artifacts.queries.summary import Result
from artifacts.records import Record
from artifacts.store import Store

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Input(Generic[R]):
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
    record: R | None
    step: str = ""
    key: StepKey | None = None


class Lineage(Generic[R]):
    """Results of a store and how they hang together.

    Args:
        records: of one store, whole or in summary.
    """

    def __init__(self, records: Iterable[R]) -> None:
        self.records: Mapping[StepKey, R] = {record.key: record for record in records}
        self._by_tree: dict[Digest, list[R]] = {}
        for record in self.records.values():
            self._by_tree.setdefault(record.tree, []).append(record)
        self._users: dict[StepKey, list[R]] | None = None
        self._made_by: dict[str, dict[StepKey, frozenset[StepKey]]] = {}

    @staticmethod
    def of(store: Store) -> "Lineage[Record]":
        """Read the lineage of all records in a store, each of them whole."""
        return Lineage(store.records())

    def inputs(self, record: R) -> list[Input[R]]:
        """List what a result was made from, in role order.

        The provenance says which results these were; an input that it does not name is looked for
        by its digest, and is a model's or data set's files if no result has it.
        """
        named = [self._named(role, said) for role, said in record.named_inputs.items()]
        roles = {found.role for found in named}
        others = [
            self._by_digest(role, digest)
            for role, digest in record.inputs.items()
            if role not in roles and role.partition(".")[0] not in roles
        ]
        return sorted([*named, *others], key=lambda found: found.role)

    def users(self, record: R) -> list[R]:
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

    def depends_on(self, record: R, step: str) -> list[R]:
        """Return a result, and those that it was made from, as far as ``step`` made them.

        Args:
            record: of the result.
            step: the name of a step.

        Returns:
            Their records, in key order.
        """
        if record.key not in self.records:
            return []
        known = self._made_by.setdefault(step, {})
        waiting = [record.key] if record.key not in known else []
        while waiting:  # what a result was made from comes before it, and each is looked at once
            key = waiting[-1]
            above = [i.record.key for i in self.inputs(self.records[key]) if i.record is not None]
            own = frozenset([key]) if self.records[key].step == step else frozenset()
            missing = [] if key in known else [k for k in above if k not in known]
            known.setdefault(key, own)  # were a result made from itself, this would end it
            if missing:
                waiting += missing
            else:
                known[key] = own.union(*(known[k] for k in above))
                waiting.pop()
        return [self.records[key] for key in sorted(known[record.key])]

    def walk(self, record: R) -> Iterator[tuple[int, Input[R]]]:
        """Yield (depth, input) of the whole tree above a record, depth first.

        An input that was shown before is shown again, but not what is above it.
        """
        seen: set[StepKey] = set()

        def below(user: R, depth: int) -> Iterator[tuple[int, Input[R]]]:
            for found in self.inputs(user):
                yield depth, found
                if found.record is not None and found.record.key not in seen:
                    seen.add(found.record.key)
                    yield from below(found.record, depth + 1)

        yield from below(record, 1)

    def _named(self, role: str, said: Mapping[str, object]) -> Input[R]:
        key, digest, step = said.get("key"), str(said.get("digest", "")), str(said.get("step", ""))
        if not is_hex_digest(key):
            return self._by_digest(role, digest)
        known = StepKey(str(key))
        return Input(role, digest, self.records.get(known), step, known)

    def _by_digest(self, role: str, digest: str) -> Input[R]:
        found = self._by_tree.get(Digest(digest), [])
        if not found:
            return Input(role, digest, None)
        return Input(role, digest, found[0], found[0].step, found[0].key)


def inputs_first(lineage: Lineage[R], wanted: set[StepKey]) -> list[StepKey]:
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


def model_name(record: Result) -> str:
    """Describe an acquired model by what its record holds: kind, size, and its key's first digits.

    Where it was loaded from is no part of what it is.
    """
    kind = str(record.facts.get("model_type", "model"))
    count = record.facts.get("parameters")
    size = f" {count / 1e6:,.1f}M" if isinstance(count, int) else ""
    return f"{kind}{size} {record.key[:12]}"
