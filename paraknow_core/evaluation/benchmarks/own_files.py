"""The user's own definitions, looked at before the harness loads them. Imports no harness.

The harness passes over a file with a fault, and then says that the task is unknown.
"""

from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

import yaml

from paraknow_core.errors import ConfigError
from paraknow_core.printable import printable

MOST_FILES = 10_000
_SOURCES = ("dataset_path", "custom_dataset")
_QUESTIONS = ("test_split", "validation_split")
_TAKES_FILES = frozenset({"json", "parquet", "csv", "text", "arrow"})


class _Loader(yaml.SafeLoader):
    """Reads ``!function module.name`` as text."""


_Loader.add_constructor("!function", lambda _loader, node: str(node.value))


def definition_files(include: Path) -> list[Path]:
    """Return the files of a folder of definitions, all that a definition may read among them.

    Raises:
        ConfigError: if it is no folder, or holds too many files.
    """
    if not include.is_dir():
        raise ConfigError(
            f"evaluate.harness.include_path {str(include)!r} is no folder; give the one that holds "
            "your definitions (*.yaml)"
        )
    found = sorted(
        path
        for path in include.rglob("*")
        if path.is_file()
        and not any(
            p.startswith(".") or p == "__pycache__" for p in path.relative_to(include).parts
        )
    )
    if len(found) > MOST_FILES:
        raise ConfigError(
            f"evaluate.harness.include_path {str(include)!r} holds {len(found)} files; give the "
            "folder of the definitions alone"
        )
    return found


def check_definitions(include: Path) -> None:
    """Refuse a folder of definitions in which one has a fault.

    Raises:
        ConfigError: with file and line.
    """
    for path in definition_files(include):
        if path.suffix == ".yaml":
            _check(path, _read(path))


def data_files(include: Path) -> list[Path]:
    """Return the local data files that the definitions of a folder name."""
    found: dict[Path, None] = {}
    for path in definition_files(include):
        if path.suffix == ".yaml":
            for named in _named(_with_includes(path)):
                found |= dict.fromkeys(Path(one) for one in _matching(named))
    return [path for path in found if path.is_file()]


def _named(given: Mapping[str, Any]) -> Iterator[str]:
    kwargs = given.get("dataset_kwargs")
    files = kwargs.get("data_files") if isinstance(kwargs, Mapping) else None
    for one in _flat(files):
        yield str(Path(str(kwargs.get("data_dir") or "")) / one)  # type: ignore[union-attr]
    folders = [given.get("dataset_path"), (kwargs or {}).get("data_dir")]
    for folder in folders:
        if isinstance(folder, str) and Path(folder).is_dir():
            yield from (str(path) for path in Path(folder).rglob("*"))


def _matching(named: str) -> list[str]:
    """The files that a name with wildcards means, as `datasets` reads it."""
    return sorted(glob(named, recursive=True))  # noqa: PTH207 - it may be absolute


def _flat(files: Any) -> Iterator[str]:
    if isinstance(files, str):
        yield files
    for one in files.values() if isinstance(files, Mapping) else files or ():
        if not isinstance(files, str):
            yield from _flat(one)


def _read(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe one
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:1: is no UTF-8 text: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, what = (mark.line + 1 if mark else 1), getattr(error, "problem", None) or "no YAML"
        raise ConfigError(f"{path}:{line}: {printable(str(what))}") from None


def _with_includes(path: Path, depth: int = 0) -> dict[str, Any]:
    given = _read(path)
    if not isinstance(given, dict) or depth > 20:
        return {}
    merged: dict[str, Any] = {}
    included = given.get("include", [])
    for one in [included] if isinstance(included, str) else included:
        below = path.parent / str(one)
        if not below.is_file():
            raise ConfigError(
                f"{path}:{_line(path, 'include')}: includes {one!r}, which is no file"
            )
        merged |= _with_includes(below, depth + 1)
    return merged | given


def _check(path: Path, given: Any) -> None:
    if not isinstance(given, dict):
        raise ConfigError(f"{path}:1: a definition holds settings (key: value)")
    if "group" in given or "class" in given:
        return
    if "task" not in given:
        raise ConfigError(
            f"{path}:1: names neither a task nor a group; a definition has `task: NAME`, a file "
            "that others include must not end in .yaml"
        )
    if not isinstance(given["task"], str):
        raise ConfigError(f"{path}:{_line(path, 'task')}: task is to be a name")
    whole = _with_includes(path)
    for names in (_SOURCES, _QUESTIONS, ("doc_to_text",), ("doc_to_target",)):
        if not any(whole.get(name) is not None for name in names) and "class" not in whole:
            raise ConfigError(
                f"{path}:{_line(path, 'task')}: task {given['task']!r} lacks "
                f"{' or '.join(names)}; it is required"
            )
    if whole.get("dataset_path") in _TAKES_FILES:
        _check_files(path, whole)


def _check_files(path: Path, whole: Mapping[str, Any]) -> None:
    line = _line(path, "dataset_kwargs")
    named = list(_named(whole))
    if not named:
        raise ConfigError(
            f"{path}:{line}: dataset_path {whole['dataset_path']} needs dataset_kwargs.data_files, "
            "a file for each split"
        )
    for one in named:
        if "://" not in one and not _matching(one):
            raise ConfigError(
                f"{path}:{line}: data file {one!r} does not exist (looked in {Path.cwd()})"
            )


def _line(path: Path, key: str) -> int:
    """The line in which a setting of the outermost level stands; 1 if it is in another file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = (f"{key}:", f'"{key}":', f"'{key}':")
    return next((n for n, line in enumerate(lines, 1) if line.startswith(starts)), 1)
