"""What holds of every source file: folders, files, imports, names, and how fields are described."""

import ast
import itertools
import re
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("flows", "tasks", "paraknow_core", "artifacts")
MODULES_IN_A_FOLDER = 20
ONE_STEP_A_FILE = {"tasks": 25}
LINES_IN_A_FILE = 300


@cache
def modules() -> dict[str, tuple[Path, ast.Module]]:
    """Module → its file and what stands in it."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path, ast.parse(path.read_text())
    return found


def imports(tree: ast.AST, known: Collection[str]) -> set[str]:
    """The known modules that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            below = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in below.values()}
    return found & set(known)


def cycle(arrows: dict[str, set[str]]) -> list[str]:
    """The names on one circle of arrows; empty if there is none."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_files_import_each_other_not_even_inside_functions() -> None:
    arrows = {name: imports(tree, modules()) - {name} for name, (_, tree) in modules().items()}
    assert sum(map(len, arrows.values())) > 500
    assert cycle(arrows) == []


def test_a_circle_inside_a_function_is_seen() -> None:
    files = {"a.one": "def f():\n    from a.two import g", "a.two": "from a import one"}
    arrows = {name: imports(ast.parse(text), files) for name, text in files.items()}
    assert set(cycle(arrows)) == {"a.one", "a.two"}


@pytest.mark.parametrize("package", PACKAGES)
def test_folders_and_files_stay_small(package: str) -> None:
    for folder in [ROOT / package, *(ROOT / package).rglob("*/")]:
        files = list(folder.glob("*.py"))
        limit = ONE_STEP_A_FILE.get(str(folder.relative_to(ROOT)), MODULES_IN_A_FOLDER)
        count = len([path for path in files if path.name != "__init__.py"])
        assert count <= limit, f"{folder} has {count} modules: give one of its jobs a folder"
        lengths = {path.name: len(path.read_text().splitlines()) for path in files}
        assert {name: n for name, n in lengths.items() if n > LINES_IN_A_FILE} == {}


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes and aliases of types that a file defines for others."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                pass
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if not re.fullmatch("[A-Z][a-z].*", name):
                    continue
            case _:
                continue
        if not name.startswith("_"):
            yield name


def test_no_class_or_alias_has_the_name_of_another() -> None:
    places: dict[str, list[str]] = {}
    for module, (_path, tree) in modules().items():
        for name in public_names(tree):
            places.setdefault(name, []).append(module)
    assert len(places) > 200
    assert {n: found for n, found in places.items() if len(found) > 1} == {}


def fields_with_a_text_below(node: ast.ClassDef) -> list[str]:
    return [
        ast.unparse(field.target)
        for field, text in itertools.pairwise(node.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
    ]


def test_only_pydantic_models_describe_their_fields_one_by_one() -> None:
    """Forms and ``--help`` show those; of every other class ``Attributes:`` lists the fields."""
    models = {"BaseModel", "Settings"}
    found = {
        f"{module}.{node.name}": fields
        for module, (_path, tree) in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and not models & {ast.unparse(base) for base in node.bases}
        and (fields := fields_with_a_text_below(node))
    }
    assert found == {}
