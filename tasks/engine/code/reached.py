"""Which source code a step's output depends on, found by reading it; nothing is imported or run.

From a step's ``compute`` the names that it uses are followed, definition by definition, through
``paraknow_core`` and ``tasks``: an edit elsewhere in the same files is no drift, nor is one of
comments, docstrings, layout or annotations of functions, nor moving a definition to another file.
Of a registry's table only those entries count that were looked up. Not followed: names made at run
time (``getattr`` with a text, for one), and how steps are run and shown (``PLUMBING``).
"""

import ast
import functools
import importlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from paraknow_core.registry import ALL
from tasks.engine.code.definitions import Module, Target, imported, meaningful, parse_module, shape
from tasks.engine.code.walk import Definition, Walk, joined, short_digest

PACKAGES = ("paraknow_core", "tasks")

Used = Mapping[str, Iterable[str]]
"""Kind of choice → the entries of its registry that a computation looked up."""


@dataclass(frozen=True)
class Reached:
    """The code behind one function.

    Attributes:
        digest: of all definitions reached and of which uses which, wherever they stand.
        entries: kind of choice → entry that was used → digest of the code behind it; "" if there
            is none of that name.
        modules: module → digest of those of its definitions that are reached.
        libraries: other packages that these import, by their import name.
    """

    digest: str
    entries: Mapping[str, Mapping[str, str]]
    modules: Mapping[str, str]
    libraries: frozenset[str]


class Sources:
    """The source files of some packages, each read and parsed once, whatever thread asks first.

    Args:
        roots: package → its folder.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = roots
        self._parsed: dict[str, Module | None] = {}
        self._digests: dict[str, str] = {}
        self._read: dict[Target, Definition] = {}
        self._walks: dict[tuple[str, str, str | None], Walk] = {}
        # CPython 3.11's ``ast.parse`` fails with a SystemError where several threads parse.
        self._lock = threading.RLock()

    def file_digest(self, module: str) -> str:
        """Return a digest of a module's file, "" if it has none here."""
        if module not in self._digests:
            path = self._path(module)
            self._digests[module] = short_digest(path.read_bytes()) if path else ""
        return self._digests[module]

    def reached(self, module: str, name: str, used: Used | None = None) -> Reached:
        """Follow a function's names through these packages.

        Args:
            module: that defines the function.
            name: of the function.
            used: the entries of registries to follow as well; None: all that are there.
        """
        with self._lock:
            walks, entries = [self._walk(module, name, None)], dict[str, dict[str, str]]()
            while fresh := [
                (kind, table)
                for walk in walks
                for kind, table in walk.tables.items()
                if kind not in entries
            ]:
                kind, table = fresh[0]
                whole = any(kind in walk.whole_tables for walk in walks)
                asked = None if used is None else set(used.get(kind, ()))
                more, entries[kind] = self._entries(table, asked, whole=whole)
                walks += more
            for kind in (used or {}).keys() - entries.keys():
                entries[kind] = dict.fromkeys((used or {})[kind], "")  # no such registry any more
            return Reached(
                walks[0].digest(),
                {kind: found for kind, found in sorted(entries.items()) if found},
                joined(walks),
                frozenset().union(*(walk.libraries for walk in walks)),
            )

    def _entries(
        self, table: Target, asked: set[str] | None, *, whole: bool
    ) -> tuple[list["Walk"], dict[str, str]]:
        """Follow entries of a registry; where a table is gone through, its list counts as well."""
        parsed = self.parse(table[0])
        known = parsed.tables[table[1]].entries if parsed else {}
        whole = whole or ALL in (asked or ())
        wanted = set(known) if whole or asked is None else asked
        walks = {name: self._walk(*table, name) for name in sorted(wanted) if name in known}
        found = {name: walks[name].digest() if name in walks else "" for name in sorted(wanted)}
        if whole:
            found[ALL] = short_digest(repr([(name, found[name]) for name in known]).encode())
        return list(walks.values()), found

    def parse(self, name: str) -> Module | None:
        """Return a module's definitions, None if it is none of these packages'."""
        with self._lock:
            if name not in self._parsed:
                path = self._path(name)
                self._parsed[name] = (
                    None if path is None else parse_module(name, path, frozenset(self._roots))
                )
            return self._parsed[name]

    def read(self, module: Module, name: str, parts: Iterable[ast.AST]) -> Definition:
        """Read one definition: its words, and what the names in it stand for.

        Args:
            module: that it stands in.
            name: of it there.
            parts: the statements or the expression that it consists of.
        """
        if (module.name, name) not in self._read:
            self._read[module.name, name] = self._definition(module, parts)
        return self._read[module.name, name]

    def _definition(self, module: Module, parts: Iterable[ast.AST]) -> Definition:
        words, names, here = [], set[str](), dict[str, Target]()
        for part in parts:
            words.append(shape(part, module))
            for node in meaningful(part, module):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    here |= dict(imported(node, module.name))
                elif isinstance(node, ast.Name):
                    names.add(node.id)
        known = {n: t for n in names if (t := self._resolved(here.get(n) or (module.name, n)))}
        local = {n: t for n, given in here.items() if (t := self._resolved(given))}
        return Definition(" ".join(words), known | local)

    def _resolved(self, target: Target) -> Target | None:
        """Follow imports to where a name is defined; None for a name that no module gives."""
        for _step in range(64):  # a circle of imports defines nothing
            module, name = target
            parsed = self.parse(module)
            if parsed is None or not name or name in parsed.definitions:
                return target
            if self.parse(f"{module}.{name}") is not None:
                return f"{module}.{name}", ""
            if name not in parsed.imports:
                return None
            target = parsed.imports[name]
        return None

    def _walk(self, module: str, name: str, entry: str | None) -> "Walk":
        asked = (module, name, entry)
        if asked not in self._walks:
            self._walks[asked] = Walk(self, asked)
        return self._walks[asked]

    def _path(self, module: str) -> Path | None:
        package, *parts = module.split(".")
        if package not in self._roots:
            return None
        base = self._roots[package].joinpath(*parts)
        for path in (base / "__init__.py", base.with_suffix(".py")):
            if path.is_file():
                return path
        return None


@functools.cache
def present() -> Sources:
    """Return the sources that this process runs."""
    files = {name: importlib.import_module(name).__file__ for name in PACKAGES}
    return Sources({name: Path(str(file)).parent for name, file in files.items()})
