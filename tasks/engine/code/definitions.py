"""A source file as its definitions: what each is made of, where that means something.

Nothing is imported or run. Comments, docstrings, layout and annotations of functions mean nothing
here, nor does in which file of ours a definition stands: importing it from elsewhere after a move
changes nothing.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Target = tuple[str, str]
"""(module, name there); the name is "" for the module itself."""

REGISTRY = "Registry"
"""The class whose tables are taken apart: each entry counts by itself."""


@dataclass(frozen=True)
class RegistryTable:
    """A registry's table: its kind, and the expression of each entry."""

    kind: str
    entries: dict[str, ast.expr]


@dataclass(frozen=True)
class Module:
    """What a file defines at its top level.

    Attributes:
        name: of the module.
        ours: the packages whose imports are followed.
        definitions: name → the statements that give it.
        imports: name here → what it stands for.
        tables: name → the registry that is made there.
        always: statements that run whenever the module is imported.
    """

    name: str
    ours: frozenset[str]
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Target] = field(default_factory=dict)
    tables: dict[str, RegistryTable] = field(default_factory=dict)
    always: list[ast.stmt] = field(default_factory=list)

    def is_ours(self, module: str) -> bool:
        """Tell whether a module belongs to the packages that are followed."""
        return module.partition(".")[0] in self.ours


def parse_module(name: str, path: Path, ours: frozenset[str]) -> Module:
    """Read a source file."""
    module = Module(name, ours)
    source = path.read_bytes()
    try:
        tree = ast.parse(source)
    except SystemError:  # some library parsed at the same time in another thread
        tree = ast.parse(source)
    for statement in tree.body:
        _sort(module, statement)
    return module


def _sort(module: Module, statement: ast.stmt) -> None:
    """File one top-level statement under the names that it gives, or under what always runs."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        module.imports.update(imported(statement, module.name))
    elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
        for other in statement.orelse:
            _sort(module, other)
    elif names := list(_names_given(statement)):
        for name in names:
            module.definitions.setdefault(name, []).append(statement)
            if table := _table(statement):
                module.tables[name] = table
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
        case _ if hasattr(statement, "body"):  # if, try, with: its names depend on all of it
            for below in ast.iter_child_nodes(statement):
                if isinstance(below, ast.stmt):
                    yield from _names_given(below)


def _table(statement: ast.stmt) -> RegistryTable | None:
    """Return the registry that a statement makes, if its entries are written out there."""
    match statement:
        case ast.Assign(value=ast.Call() as call) | ast.AnnAssign(value=ast.Call() as call):
            pass
        case _:
            return None
    match call.func, call.args:
        case ast.Name(id="Registry"), [ast.Constant(value=str(kind)), ast.Dict() as entries]:
            pairs = list(zip(entries.keys, entries.values, strict=True))
        case _:
            return None
    names = [key.value for key, _ in pairs if isinstance(key, ast.Constant)]
    if len(names) < len(pairs):
        return None  # an entry whose name is not written out: the table counts as a whole
    return RegistryTable(
        kind, {str(name): value for name, (_key, value) in zip(names, pairs, strict=True)}
    )


def imported(statement: ast.Import | ast.ImportFrom, module: str) -> Iterator[tuple[str, Target]]:
    """Yield (name here, what it stands for) of an import."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0], (alias.name, "")
        return
    parent = module.rsplit(".", statement.level)[0] + "." if statement.level else ""
    source = (parent + (statement.module or "")).rstrip(".")
    for alias in statement.names:
        there = "" if alias.name == "*" else alias.name
        yield alias.asname or alias.name, (source, there)


def meaningful(node: ast.AST, module: Module) -> Iterator[ast.AST]:
    """Walk what of a statement can change what it does, its imports included.

    The entries of a registry's table are left out: they are followed one by one.
    """
    yield node
    for _name, value in _parts(node, module, imports=True):
        for below in value if isinstance(value, list) else [value]:
            if isinstance(below, ast.AST):
                yield from meaningful(below, module)


def shape(node: object, module: Module) -> str:
    """Write a syntax tree; unlike ``ast.dump`` it reads the same under every Python we run on.

    Imports of our own code are left out: they say where it stands.
    """
    if isinstance(node, ast.AST):
        parts = _parts(node, module, imports=False)
        inner = ",".join(f"{name}={shape(value, module)}" for name, value in parts)
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return "[" + ",".join(shape(each, module) for each in node) + "]"
    return repr(node)


def _parts(node: ast.AST, module: Module, *, imports: bool) -> Iterator[tuple[str, object]]:
    for name, value in ast.iter_fields(node):
        if name in ("ctx", "type_comment", "returns") or value is None or value == []:
            continue
        if name == "annotation" and isinstance(node, ast.arg):
            continue
        if not isinstance(value, list):
            yield name, value
            continue
        counted = value[:1] if _is_own_table(node, name) else value
        yield name, [each for each in counted if not _is_silent(each, module, imports)]


def _is_own_table(node: ast.AST, part: str) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="Registry")) if part == "args":
            return _table(ast.Assign(targets=[], value=node)) is not None
    return False


def _is_silent(node: object, module: Module, imports: bool) -> bool:
    """Tell whether a part of a body changes nothing: a text, or an import of our own code."""
    if _is_text(node):
        return True
    if imports or not isinstance(node, ast.Import | ast.ImportFrom):
        return False
    found = imported(node, module.name)  # what a name stands for is said where it is used
    return all(module.is_ours(source) for _name, (source, _there) in found)


def _is_text(node: object) -> bool:
    """Tell whether a statement is only a text, as a docstring is."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False
