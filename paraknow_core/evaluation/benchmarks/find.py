"""Finding definitions: the harness's own, those that are shipped here, and the user's.

Imports the harness (about 2 s). Its whole index takes 10 s more, so it is only built for a name
that cannot be found without.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import lm_eval.tasks
from lm_eval.tasks._index import Entry, Kind, TaskIndex

from paraknow_core.errors import ConfigError

HARNESS = Path(lm_eval.tasks.__file__).parent
"""The folder of the harness's own definitions."""
OWN = Path(__file__).parent / "definitions"
"""The folder of those that are shipped here."""

Index = Mapping[str, Entry]


@dataclass(frozen=True)
class Found:
    """Which definitions a name means.

    Attributes:
        folders: of the harness's own that hold some of them, relative to ``HARNESS``.
        files: of each single task, its file.
    """

    folders: tuple[str, ...]
    files: Mapping[str, Path]


def find(name: str, include: Path | None) -> Found:
    """Find a task, group or tag, with all that it is made of.

    Args:
        name: of the task.
        include: the user's folder of definitions.

    Raises:
        ConfigError: if there is none of that name; names the nearest ones.
    """
    own = [OWN, *([include] if include else [])]
    # A tag may have members anywhere, so only the whole index knows it.
    for folders in ([], *_guesses(name)):
        index = _built(*folders, *own)
        if _is_closed(index, name):
            return _found(index, name)
    index = {**_whole(), **_built(*own)}
    if name not in index:
        near = difflib.get_close_matches(name, index, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        where = f" and in {include}" if include else ""
        raise ConfigError(
            f"unknown benchmark {name!r}{hint}; looked among the {len(_whole())} tasks, groups and "
            f"tags of lm-evaluation-harness{where}. `lm_eval ls` lists the former; a definition "
            "of your own is a *.yaml file in the folder evaluate.harness.include_path"
        )
    return _found(index, name)


def _built(*folders: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = TaskIndex.build(folders)
    return found


@cache
def _whole() -> dict[str, Entry]:
    return _built(HARNESS)


def _guesses(name: str) -> Iterator[list[Path]]:
    """Folders that the harness may keep a task in: ``arc_easy`` lies in ``arc``."""
    parts = name.split("_")
    for count in range(len(parts), 0, -1):
        folder = HARNESS / "_".join(parts[:count])
        if parts[0] and folder.parent == HARNESS and folder.is_dir():
            yield [folder]


def _children(entry: Entry) -> list[str]:
    """The names that a group is made of; definitions that stand inside of it have none."""
    given = (entry.cfg or {}).get("task") or []
    listed = [given] if isinstance(given, str) else given
    named = [one if isinstance(one, str) else one.get("group") or one.get("task") for one in listed]
    return [name for name in named if isinstance(name, str)]


def _is_closed(index: Index, name: str) -> bool:
    entry = index.get(name)
    if entry is None or entry.kind is Kind.TAG:
        return False
    return entry.kind is not Kind.GROUP or all(_is_closed(index, one) for one in _children(entry))


def _found(index: Index, name: str) -> Found:
    files: dict[str, Path] = {}
    seen: dict[str, None] = {}
    _follow(index, name, files, seen)
    paths = [path for one in seen if (path := index[one].yaml_path) is not None]
    inside = [path.parent.relative_to(HARNESS) for path in paths if path.is_relative_to(HARNESS)]
    return Found(tuple(sorted({str(folder) for folder in inside})), files)


def _follow(index: Index, name: str, files: dict[str, Path], seen: dict[str, None]) -> None:
    entry = index.get(name)
    if entry is None or name in seen:
        return
    seen[name] = None
    if entry.kind is Kind.GROUP:
        below: Sequence[str] = _children(entry)
    elif entry.kind is Kind.TAG:
        below = sorted(entry.tags)
    else:
        below = ()
        if entry.yaml_path is not None:
            files[name] = entry.yaml_path
    for one in below:
        _follow(index, one, files, seen)
