"""One walk over definitions: from a step's function, or from an entry of a registry."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from artifacts.disk.digests import digest_bytes
from tasks.engine.code.definitions import Module, Target

PLUMBING = frozenset(
    {
        "paraknow_core.errors",
        "paraknow_core.partial_results",
        "paraknow_core.progress",
        "paraknow_core.registry",
        "paraknow_core.seals",
        "paraknow_core.settings",
        "tasks.checks.preflight",
        "tasks.engine.child",
        "tasks.engine.code.definitions",
        "tasks.engine.code.drift",
        "tasks.engine.code.reached",
        "tasks.engine.code.revisions",
        "tasks.engine.code.walk",
        "tasks.engine.computation",
        "tasks.engine.estimates",
        "tasks.engine.partial",
        "tasks.engine.prefect_task",
        "tasks.engine.progress",
        "tasks.engine.provenance",
        "tasks.engine.ref",
        "tasks.engine.run",
        "tasks.engine.run_step",
        "tasks.engine.source_files",
        "tasks.engine.stage",
        "tasks.engine.step",
        "tasks.engine.step_names",
        "tasks.engine.workers",
    }
)
"""How a step is asked for, run and shown, which its output does not depend on."""

_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
"""What uses its names when it is called, not when its module is imported."""

_DIGITS = 32  # of a digest: enough to see a change, and records stay small


@dataclass
class Definition:
    """One definition reached: its own words, and what each of the names in it stands for."""

    words: str
    uses: dict[str, Target] = field(default_factory=dict)


class Files(Protocol):
    """What a walk asks of the source files."""

    def parse(self, name: str) -> Module | None:
        """Return a module's definitions, None if it is none of ours."""

    def read(self, module: Module, name: str, parts: Iterable[ast.AST]) -> Definition:
        """Return one definition's words and uses."""


class Walk:
    """One walk over definitions, each visited once: from a function, or an entry of a registry."""

    def __init__(self, sources: Files, start: tuple[str, str, str | None]) -> None:
        self._sources = sources
        self._found: dict[Target, Definition] = {}
        self._waiting: list[Target] = []
        self.libraries: set[str] = set()
        self.tables: dict[str, Target] = {}
        self.whole_tables: set[str] = set()
        module, name, entry = start
        parsed = sources.parse(module)
        if entry is None:
            self._waiting.append((module, name))
        elif parsed is not None:
            parts = [parsed.tables[name].entries[entry]]
            self._read(parsed, f"{name}[{entry}]", parts)
        while self._waiting:
            self._visit(*self._waiting.pop())

    def digest(self) -> str:
        """Digest every definition with what its names stand for, in which file of ours or not."""
        return short_digest("\n".join(sorted(self._lines(self._found))).encode())

    def by_module(self) -> dict[str, set[str]]:
        """Return for each module the lines of its definitions that are reached."""
        places: dict[str, list[Target]] = {}
        for place in self._found:
            places.setdefault(place[0], []).append(place)
        return {module: set(self._lines(found, own=True)) for module, found in places.items()}

    def _lines(self, places: Iterable[Target], *, own: bool = False) -> Iterator[str]:
        """Yield a line for each definition; with ``own``, without what it uses of ours."""
        for module, name in places:
            found = self._found[module, name]
            uses = {
                each: self._meaning(target)
                for each, target in found.uses.items()
                if not own or self._sources.parse(target[0]) is None
            }
            yield f"{name} = {found.words} | {sorted(uses.items())}"

    def _meaning(self, target: Target) -> str:
        """Say what a name stands for: words of ours, or the name of somebody else's."""
        if target in self._found:
            return short_digest(self._found[target].words.encode())
        if self._sources.parse(target[0]) is not None:
            return "" if target[1] else "a module"
        return ".".join(target)

    def _visit(self, module: str, name: str) -> None:
        parsed = self._sources.parse(module)
        if parsed is None:
            self.libraries.add(module.partition(".")[0])
        elif module in PLUMBING:
            return
        elif not name:  # the module itself: everything in it
            self._waiting += [(module, each) for each in parsed.definitions]
            self._waiting += parsed.imports.values()
        elif name in parsed.definitions and (module, name) not in self._found:
            self._reach(parsed, name)

    def _reach(self, module: Module, name: str) -> None:
        if module.always and (module.name, "") not in self._found:
            self._read(module, "", module.always)
        if name in module.tables:
            self.tables[module.tables[name].kind] = (module.name, name)
        statements = module.definitions[name]
        found = self._read(module, name, statements)
        if not isinstance(statements[-1], _LATER):  # it went through a table at import, unnoted
            for used in found.uses.values():
                if used != (module.name, name) and (table := self._table(used)):
                    self.whole_tables.add(table)

    def _read(self, module: Module, name: str, parts: Iterable[ast.AST]) -> Definition:
        found = self._found[module.name, name] = self._sources.read(module, name, parts)
        self._waiting += found.uses.values()
        return found

    def _table(self, target: Target) -> str:
        parsed = self._sources.parse(target[0])
        table = parsed.tables.get(target[1]) if parsed else None
        return table.kind if table else ""


def joined(walks: Iterable[Walk]) -> dict[str, str]:
    """Digest each module's lines over several walks."""
    lines: dict[str, set[str]] = {}
    for walk in walks:
        for module, found in walk.by_module().items():
            lines.setdefault(module, set()).update(found)
    return {m: short_digest("\n".join(sorted(lines[m])).encode()) for m in sorted(lines)}


def short_digest(data: bytes) -> str:
    """Return as much of a digest as is kept of code."""
    return digest_bytes(data)[:_DIGITS]
