"""What holds of every source file: folders stay small, and no two files import each other."""

import ast
from collections.abc import Collection
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
        assert {name: n for name, n in lengths.items() if n >= LINES_IN_A_FILE} == {}
