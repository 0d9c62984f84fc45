"""Why two results have different keys: the fields that differ, followed upstream."""

from dataclasses import dataclass

from artifacts.keys import Difference, diff
from artifacts.names import Digest, StepKey, is_hex_digest
from artifacts.records import Record
from artifacts.store import Store


@dataclass(frozen=True)
class Explanation:
    """One field in which two keys differ, and for an input what made it.

    Attributes:
        difference: the field and its two values.
        a: the record that made the first input, None if it is unknown or no input.
        b: the same for the second.
        because: how those two differ in turn, if both are known and of one step.
    """

    difference: Difference
    a: Record | None = None
    b: Record | None = None
    because: tuple["Explanation", ...] = ()


def explain(store: Store, a: Record, b: Record) -> list[Explanation]:
    """List the differences between two records' keys, down to the settings that caused them.

    Raises:
        StoreIOError: if a record upstream could not be read.
    """
    return [_follow(store, found, a, b) for found in diff(a.payload, b.payload)]


def _follow(store: Store, found: Difference, a: Record, b: Record) -> Explanation:
    kind, _, role = found.field.partition(".")
    if kind != "inputs":
        return Explanation(found)
    maker_a = _maker(store, a, role, found.a)
    maker_b = _maker(store, b, role, found.b)
    because: tuple[Explanation, ...] = ()
    if maker_a is not None and maker_b is not None and maker_a.step == maker_b.step:
        because = tuple(explain(store, maker_a, maker_b))
    return Explanation(found, maker_a, maker_b, because)


def _maker(store: Store, user: Record, role: str, digest: object) -> Record | None:
    """Find the record that made an input: the key in the provenance, else any with that output."""
    if not isinstance(digest, str) or not is_hex_digest(digest):
        return None
    match user.provenance.get("inputs"):
        case {**inputs} if isinstance(said := inputs.get(role), dict):
            key = said.get("key")
            if isinstance(key, str) and is_hex_digest(key):
                return store.lookup_record(StepKey(key))
    return next(iter(store.find_by_tree(Digest(digest))), None)
