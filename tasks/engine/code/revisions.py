"""Which earlier code computes the same numbers as the present code, step by step.

A step's version is raised when its numbers change. Whatever else changes in its code, such as a
function that is split or a table that is laid out anew, leaves the numbers as they were, and the
results that people have stay as good as new ones. ``revisions.json`` says so: for each step, and
each entry of a registry, the digest of its code now, and the digests of code that computes the
same. It vouches for nothing that is edited later: then the present code has another digest.

``python -m tasks.revise`` prints which steps a change concerns, and writes the file.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artifacts.canonical import canonical_bytes
from tasks.engine.code.reached import Used
from tasks.engine.code.walk import short_digest

FILE = Path(__file__).with_suffix(".json")

FIRST_SEEN = "0.2.0"
"""In place of an entry's digest: what results of 0.2.0 may have used, which do not say what."""


@dataclass(frozen=True)
class Made:
    """The code that made a record.

    Attributes:
        digest: of the code behind the step's function.
        entries: kind of choice → entry → digest of its code; None where the record does not say
            which it used: then every entry that was there counts.
    """

    digest: str
    entries: Mapping[str, Mapping[str, str]] | None

    @property
    def used(self) -> Used | None:
        """The entries that it looked up."""
        return self.entries


@dataclass
class Revision:
    """The code of one step or one entry: its digest now, and others with the same numbers."""

    now: str
    also: list[str] = field(default_factory=list)
    version: int = 1

    def is_equal(self, made: str, now: str) -> bool:
        """Tell whether code of one digest computes what code of another does."""
        return made == now or (now == self.now and made in self.also)


UNKNOWN = Revision(now="")


@dataclass
class Revisions:
    """Everything that ``revisions.json`` says.

    Attributes:
        steps: function of a step → its code.
        entries: kind of choice → entry → its code.
    """

    steps: dict[str, Revision]
    entries: dict[str, dict[str, Revision]]

    def are_equal(self, function: str, made: Made, now: Mapping[str, Any]) -> bool:
        """Tell whether the code that made a record computes what the present code does.

        Args:
            function: of the step.
            made: the code that made the record.
            now: the present code, as ``code_of`` returns it for what the record used.
        """
        if not self.steps.get(function, UNKNOWN).is_equal(made.digest, now["digest"]):
            return False
        return all(
            self._is_equal_entry(made, kind, name, digest)
            for kind, found in now["entries"].items()
            for name, digest in found.items()
        )

    def _is_equal_entry(self, made: Made, kind: str, name: str, now: str) -> bool:
        known = self.entries.get(kind, {}).get(name, UNKNOWN)
        if made.entries is not None:
            then = made.entries.get(kind, {}).get(name)
            return then is not None and known.is_equal(then, now)
        # It may have used any entry of its time; one that was added since it cannot have used.
        return FIRST_SEEN not in known.also or known.now == now


def made_by(recorded: Mapping[str, Any]) -> Made:
    """Read a record's code; records of 0.2.0 name it by module, and say nothing of entries."""
    if isinstance(recorded.get("digest"), str) and isinstance(recorded.get("entries"), dict):
        return Made(recorded["digest"], recorded["entries"])
    reached = {name: digests["reached"] for name, digests in recorded["modules"].items()}
    return Made(short_digest(canonical_bytes(reached)), None)


@functools.cache
def revisions() -> Revisions:
    """Read ``revisions.json``."""
    return read(FILE.read_text())


def read(text: str) -> Revisions:
    """Read what ``write`` wrote."""
    found = json.loads(text)
    return Revisions(
        {name: Revision(**each) for name, each in found["steps"].items()},
        {
            kind: {name: Revision(**each) for name, each in entries.items()}
            for kind, entries in found["entries"].items()
        },
    )


def write(known: Revisions) -> str:
    """Write revisions as JSON, one line for each step and entry, so that changes are seen."""
    blocks = []
    steps = [f"  {json.dumps(n)}: {json.dumps(vars(r))}" for n, r in sorted(known.steps.items())]
    blocks.append(' "steps": {\n' + ",\n".join(steps) + "\n }")
    kinds = []
    for kind, entries in sorted(known.entries.items()):
        lines = [f"   {json.dumps(n)}: {json.dumps(vars(r))}" for n, r in sorted(entries.items())]
        kinds.append(f"  {json.dumps(kind)}: {{\n" + ",\n".join(lines) + "\n  }")
    blocks.append(' "entries": {\n' + ",\n".join(kinds) + "\n }")
    return "{\n" + ",\n".join(blocks) + "\n}\n"
