"""Choices by name: one way to register, look up and list them, and to report unknown names.

A table of choices is a ``Registry``. It notes which of its entries a computation looks up. So a
result depends on the entries that it used, and a new entry in a table makes no result out of date.
"""

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import TypeVar

from paraknow_core.errors import ConfigError, ParaknowError

T = TypeVar("T")

ALL = "*"
"""Noted in place of a name when a computation iterated over the whole table."""

_NOTES: ContextVar[dict[str, set[str]] | None] = ContextVar("registry_lookups", default=None)


@contextlib.contextmanager
def noted_lookups() -> Iterator[dict[str, set[str]]]:
    """Note what this thread looks up in any registry inside the ``with`` block.

    Yields:
        Kind of choice → the names looked up; ``ALL`` where a whole table was iterated over.
    """
    notes: dict[str, set[str]] = {}
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note_lookups(found: Mapping[str, Iterable[str]]) -> None:
    """Note what another process looked up for this one, as ``noted_lookups`` gave it there."""
    notes = _NOTES.get()
    if notes is not None:
        for kind, names in found.items():
            notes.setdefault(kind, set()).update(names)


class Registry(Mapping[str, T]):
    """Name → choice, in the order in which they are to be shown.

    Args:
        kind: what is chosen, as messages call it ("structure"); each kind has one table.
        entries: the choices; written out as a dict where the table is made, so that drift can find
            the code of each entry.
        error: raised by ``choose`` for an unknown name.
        made: makes the choice that a name stands for which is not written out, such as a
            benchmark's metric; None for a name that stands for none. Such choices are found by
            name and never listed.
        form: what such names look like, as a pattern, for those who cannot ask ``made``.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T],
        *,
        error: type[ParaknowError] = ConfigError,
        made: Callable[[str], T | None] | None = None,
        form: str = "",
    ) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._error = error
        self._made = made
        self.form = form

    def choose(self, name: str) -> T:
        """Return what is registered under a name that a user gave.

        Raises:
            ParaknowError: of the registry's class, if there is none; it names the known ones and
                the nearest.
        """
        if name in self:
            return self[name]
        near = difflib.get_close_matches(name, self._entries, n=1, cutoff=0.4)
        # Before the known ones: a long list is cut off where an error is shown.
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        known = ", ".join(self._entries)
        raise self._error(f"unknown {self.kind} {name!r}{hint}; known are {known}")

    def among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those of ``names`` that are registered, in this registry's order.

        Unlike iterating over the registry, this depends on the entries named only.
        """
        wanted = set(names)
        found = tuple(name for name in self._entries if name in wanted)
        for name in found:
            self._note(name)
        return found

    def __getitem__(self, name: str) -> T:
        if name not in self._entries and (made := self._make(name)) is not None:
            return made  # its code is the table's own
        found = self._entries[name]
        self._note(name)
        return found

    def _make(self, name: object) -> T | None:
        return self._made(name) if self._made is not None and isinstance(name, str) else None

    def __contains__(self, name: object) -> bool:
        return name in self._entries or self._make(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._note(ALL)
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def _note(self, name: str) -> None:
        notes = _NOTES.get()
        if notes is not None:
            notes.setdefault(self.kind, set()).add(name)
