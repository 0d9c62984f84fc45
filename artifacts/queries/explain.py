"""Why two results have different keys: the fields that differ, followed upstream."""

from collections.abc import Mapping
from dataclasses import dataclass

from artifacts.canonical import Json
from artifacts.keys import KeyPayload, PayloadDifference, diff
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

    difference: PayloadDifference
    a: Record | None = None
    b: Record | None = None
    because: tuple["Explanation", ...] = ()


def explain(
    store: Store, a: Record, b: Record, *, planned: Mapping[StepKey, Record] | None = None
) -> list[Explanation]:
    """List the differences between two records' keys, down to the settings that caused them.

    Args:
        store: that is looked in for what made the inputs.
        a: one record.
        b: the other.
        planned: records of steps that have yet to run, which no store has.

    Raises:
        StoreIOError: if a record upstream could not be read.
    """
    known = planned or {}
    return [_follow(store, found, a, b, known) for found in diff(a.payload, b.payload)]


def planned_record(payload: KeyPayload, inputs: Mapping[str, StepKey]) -> Record:
    """Return what the record of a step that has yet to run is known to hold.

    Args:
        payload: what its key will be the digest of.
        inputs: role → key of the step that makes the input.
    """
    made_of: dict[str, Json] = {role: {"key": key} for role, key in inputs.items()}
    return Record(
        key=payload.key(),
        payload=payload,
        tree=Digest("0" * 64),
        files={},
        provenance={"inputs": made_of},
    )


def nearest(store: Store, payload: KeyPayload) -> Record | None:
    """Return the stored result of the same step whose key differs in the fewest fields.

    Of several the newest; None if the store has no result of this step. Reads every record.
    """
    same_step = (record for record in store.records() if record.step == payload.step)
    ranked = [
        (-len(diff(payload, record.payload)), str(record.provenance.get("finished", "")), record)
        for record in same_step
    ]
    best = max(ranked, key=lambda row: row[:2], default=None)
    return best[2] if best else None


def _follow(
    store: Store, found: PayloadDifference, a: Record, b: Record, planned: Mapping[StepKey, Record]
) -> Explanation:
    kind, _, role = found.field.partition(".")
    if kind != "inputs":
        return Explanation(found)
    maker_a = _maker(store, a, role, found.a, planned)
    maker_b = _maker(store, b, role, found.b, planned)
    because: tuple[Explanation, ...] = ()
    if maker_a is not None and maker_b is not None and maker_a.step == maker_b.step:
        because = tuple(explain(store, maker_a, maker_b, planned=planned))
    return Explanation(found, maker_a, maker_b, because)


def _maker(
    store: Store, user: Record, role: str, digest: object, planned: Mapping[StepKey, Record]
) -> Record | None:
    """Find the record that made an input: the key in the provenance, else any with that output."""
    if not isinstance(digest, str) or not is_hex_digest(digest):
        return None
    match user.provenance.get("inputs"):
        # An input of which only some files are read is keyed as "role.file name".
        case {**inputs} if isinstance(said := _of_role(inputs, role), dict):
            key = said.get("key")
            if isinstance(key, str) and is_hex_digest(key):
                return planned.get(StepKey(key)) or store.lookup_record(StepKey(key))
    return next((record for record in store.records() if record.tree == digest), None)


def _of_role(inputs: Mapping[object, object], field: str) -> object:
    return inputs.get(field, inputs.get(field.partition(".")[0]))
