"""Which source code a step's output depends on, found by reading it; nothing is imported or run.

From a step's ``compute`` the names that it uses are followed, definition by definition, through
``paraknow_core`` and ``tasks``: an edit elsewhere in the same files is no drift, nor is one of
comments, docstrings, layout or annotations of functions. Not followed: names made at run time
(``getattr`` with a text, for one), and how steps are run and shown (``PLUMBING``).
"""

import ast
import functools
import importlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.digests import digest_bytes

PACKAGES = ("paraknow_core", "tasks")

PLUMBING = frozenset(
    {
        "paraknow_core.errors",
        "paraknow_core.progress",
        "tasks.child",
        "tasks.drift",
        "tasks.estimates",
        "tasks.identity",
        "tasks.preflight",
        "tasks.progress",
        "tasks.provenance",
        "tasks.refs",
        "tasks.run",
        "tasks.sources",
        "tasks.step",
        "tasks.workers",
    }
)
"""How a step is asked for, run and shown, which its output does not depend on."""

_DIGITS = 32  # of a digest: enough to see a change, and records stay small


@dataclass(frozen=True)
class Reached:
    """The code behind one function.

    Attributes:
        modules: module → digest of those of its definitions that are reached.
        libraries: other packages that these import, by their import name.
    """

    modules: Mapping[str, str]
    libraries: frozenset[str]


@dataclass(frozen=True)
class _Module:
    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name here → (module, name there); the second is "" for a module as a whole."""
    always: list[ast.stmt] = field(default_factory=list)
    """Statements that run whenever the module is imported."""


class Sources:
    """The source files of some packages, each read and parsed once, whatever thread asks first.

    Args:
        roots: package → its folder.
    """

    def __init__(self, roots: Mapping[str, Path]) -> None:
        self._roots = roots
        self._parsed: dict[str, _Module | None] = {}
        self._digests: dict[str, str] = {}
        self._shapes: dict[int, str] = {}
        # Shapes go by a statement's identity, so a module must not be parsed twice; and CPython
        # 3.11's ``ast.parse`` fails with a SystemError where threads parse at the same time.
        self._lock = threading.RLock()

    def file_digest(self, module: str) -> str:
        """Return a digest of a module's file, "" if it has none here."""
        if module not in self._digests:
            path = self._path(module)
            self._digests[module] = _digest(path.read_bytes()) if path else ""
        return self._digests[module]

    def reached(self, module: str, name: str) -> Reached:
        """Follow a function's names through these packages.

        Args:
            module: that defines the function.
            name: of the function.
        """
        with self._lock:
            return _Walk(self).run(module, name)

    def parse(self, name: str) -> _Module | None:
        """Return a module's definitions, None if it is none of these packages'."""
        with self._lock:
            if name not in self._parsed:
                path = self._path(name)
                self._parsed[name] = None if path is None else _parse(name, path)
            return self._parsed[name]

    def shape(self, statement: ast.stmt) -> str:
        """Return what digests are made of, for a statement that this object parsed."""
        if id(statement) not in self._shapes:
            self._shapes[id(statement)] = _shape(statement)
        return self._shapes[id(statement)]

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


class _Walk:
    """One walk over definitions, each visited once."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._seen: dict[str, set[str]] = {}
        self._libraries: set[str] = set()
        self._waiting: list[tuple[str, str]] = []

    def run(self, module: str, name: str) -> Reached:
        self._waiting.append((module, name))
        while self._waiting:
            self._visit(*self._waiting.pop())
        modules = {module: self._digest_of(module) for module in sorted(self._seen)}
        return Reached(modules, frozenset(self._libraries))

    def _visit(self, module: str, name: str) -> None:
        if module in PLUMBING:
            return
        parsed = self._sources.parse(module)
        if parsed is None:
            self._libraries.add(module.partition(".")[0])
        elif not name:  # the module as a whole
            self._waiting += [(module, each) for each in parsed.definitions | parsed.imports]
        elif name in parsed.definitions or name in parsed.imports:
            self._reach(parsed, name)
        elif self._sources.parse(f"{module}.{name}") is not None:
            self._waiting.append((f"{module}.{name}", ""))

    def _reach(self, module: _Module, name: str) -> None:
        if module.name not in self._seen:
            self._seen[module.name] = set()
            for statement in module.always:
                self._follow(module, statement)
        if name in self._seen[module.name]:
            return
        self._seen[module.name].add(name)
        if name in module.imports:
            self._waiting.append(module.imports[name])
        for statement in module.definitions.get(name, ()):
            self._follow(module, statement)

    def _follow(self, module: _Module, statement: ast.stmt) -> None:
        for node in _meaningful(statement):
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._waiting += [target for _name, target in _imported(node, module.name)]
            elif isinstance(node, ast.Name):
                self._waiting.append((module.name, node.id))

    def _digest_of(self, name: str) -> str:
        module = self._sources.parse(name)
        if module is None:  # not reached: only parsed modules are seen
            return ""
        lines = [self._sources.shape(statement) for statement in module.always]
        for used in sorted(self._seen[name]):
            lines.append(f"{used} {module.imports.get(used)}")
            lines += [self._sources.shape(each) for each in module.definitions.get(used, ())]
        return _digest("\n".join(lines).encode())


def _digest(data: bytes) -> str:
    return digest_bytes(data)[:_DIGITS]


def _parse(name: str, path: Path) -> _Module:
    module = _Module(name)
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except SystemError:  # some library parsed at the same time in another thread
        tree = ast.parse(source)
    for statement in tree.body:
        _sort(module, statement)
    return module


def _sort(module: _Module, statement: ast.stmt) -> None:
    """File one top-level statement under the names that it gives, or under what always runs."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        module.imports.update(_imported(statement, module.name))
    elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
        for other in statement.orelse:
            _sort(module, other)
    elif names := list(_names_given(statement)):
        for name in names:
            module.definitions.setdefault(name, []).append(statement)
    elif not _is_text(statement):
        module.always.append(statement)


def _names_given(statement: ast.stmt) -> Iterator[str]:
    """Yield what a statement defines; an assignment into something else's part defines nothing."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Assign(targets=targets):
            plain = [target for target in targets if isinstance(target, ast.Name | ast.Tuple)]
            for target in plain if len(plain) == len(targets) else ():
                yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.AugAssign(target=ast.Name(id=name)):
            yield name
        case _ if hasattr(statement, "body"):  # if, try, with: what it defines hangs on all of it
            for below in ast.iter_child_nodes(statement):
                if isinstance(below, ast.stmt):
                    yield from _names_given(below)


def _imported(
    statement: ast.Import | ast.ImportFrom, module: str
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield (name here, (module, name there)) of an import."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, "")
        return
    parent = module.rsplit(".", statement.level)[0] + "." if statement.level else ""
    source = (parent + (statement.module or "")).rstrip(".")
    for alias in statement.names:
        there = "" if alias.name == "*" else alias.name
        yield alias.asname or alias.name, (source, there)


def _meaningful(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what of a statement can change what it does: no docstrings, no annotations."""
    yield node
    for _name, value in _parts(node):
        for below in value if isinstance(value, list) else [value]:
            if isinstance(below, ast.AST):
                yield from _meaningful(below)


def _parts(node: ast.AST) -> Iterator[tuple[str, object]]:
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "type_comment", "returns") or value is None or value == []:
            continue
        if name == "annotation" and isinstance(node, ast.arg):
            continue
        if name == "body" and isinstance(value, list):
            yield name, [statement for statement in value if not _is_text(statement)]
        else:
            yield name, value


def _is_text(node: object) -> bool:
    """Tell whether a statement is only a text, as a docstring is."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def _shape(node: object) -> str:
    """Write a syntax tree; unlike ``ast.dump`` it reads the same under every Python we run on."""
    if isinstance(node, ast.AST):
        inner = ",".join(f"{name}={_shape(value)}" for name, value in _parts(node))
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return "[" + ",".join(map(_shape, node)) + "]"
    return repr(node)
