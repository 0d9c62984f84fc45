"""What listings and collections have to know of a result, and no more: small enough to keep."""

import json
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from artifacts.canonical import Json
from artifacts.names import Digest, StepKey
from artifacts.records import Record

MODEL_FACTS: Final = ("model_type", "parameters")
"""The facts that say what an acquired model is."""

_parse: Final = json.JSONDecoder().raw_decode


class Result(Protocol):
    """A stored result as far as lineage goes: a whole ``Record``, or its ``Summary``."""

    @property
    def key(self) -> StepKey:
        """The step key."""

    @property
    def generation(self) -> int:
        """Which record of its key it is."""

    @property
    def step(self) -> str:
        """The name of the step that made it."""

    @property
    def tree(self) -> Digest:
        """The digest that stands for its files."""

    @property
    def facts(self) -> Mapping[str, Json]:
        """A few small values; of a summary only ``MODEL_FACTS``."""

    @property
    def inputs(self) -> Mapping[str, Digest]:
        """Role → digest of what it was made from."""

    @property
    def named_inputs(self) -> Mapping[str, Mapping[str, Json]]:
        """Role → what its provenance says of that input: key, step, digest."""

    def objects(self) -> Mapping[Digest, int]:
        """Return digest → bytes of every object that it needs."""


class Summary(NamedTuple):
    """A record without what only its step, or somebody who looks at it alone, wants to know.

    Attributes:
        key: the step key.
        generation: which record of its key it is.
        step: name of the step that made it.
        tree: digest of its tree object.
        size: bytes of all its files together.
        sizes: digest → bytes of every object that it needs.
        inputs: role → digest of what it was made from.
        named_inputs: role → the key, step and digest that its provenance gives.
        finished: when, as its provenance has it; "" if it does not say.
        seconds: that it took; None if it does not say.
        facts: those of ``MODEL_FACTS`` that it has.
        used: when it was published or last looked up, as ``Ledger.last_used`` gives it; 0.0 if it
            was not found in a store's listing.
    """

    key: StepKey
    generation: int
    step: str
    tree: Digest
    size: int
    sizes: dict[Digest, int]
    inputs: dict[str, Digest]
    named_inputs: dict[str, dict[str, Json]]
    finished: str
    seconds: float | None
    facts: dict[str, Json]
    used: float = 0.0

    def objects(self) -> dict[Digest, int]:
        """Return digest → bytes of every object that it needs, its tree object included."""
        return self.sizes

    @classmethod
    def of(cls, record: Record, used: float = 0.0) -> "Summary":
        """Summarise a record."""
        finished, seconds = record.provenance.get("finished"), record.provenance.get("seconds")
        return cls(
            record.key,
            record.generation,
            record.step,
            record.tree,
            record.size,
            record.objects(),
            dict(record.inputs),
            {
                role: {name: said[name] for name in ("key", "step", "digest") if name in said}
                for role, said in record.named_inputs.items()
            },
            finished if isinstance(finished, str) else "",
            seconds if isinstance(seconds, int | float) else None,
            {name: record.facts[name] for name in MODEL_FACTS if name in record.facts},
            used,
        )

    def encode(self) -> str:
        """Return it as JSON text, without what changes with each use."""
        return json.dumps(self[:-1], separators=(",", ":"))

    @classmethod
    def decode(cls, text: str, used: float) -> "Summary":
        """Return what ``encode`` was given."""
        return cls._make((*_parse(text)[0], used))
