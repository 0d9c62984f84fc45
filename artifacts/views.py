"""Views: folders of links by which a library opens an output's files under their own names."""

import contextlib
import os
import shutil
from pathlib import Path

from artifacts.disk.files import reading, temporary_path, writing
from artifacts.objects import Objects
from artifacts.records import Record


def ensure_view(record: Record, objects: Objects, base: Path, temporary: Path) -> Path:
    """Return the view folder of a record under ``base``, made or remade where it is not right.

    It holds relative links to the read-only objects, at the files' names, and nothing else.
    Whatever else is found in it is thrown away with the old folder.

    Args:
        record: whose files to show.
        objects: where they lie.
        base: the folder of all views.
        temporary: a folder on the same file system for drafts.

    Raises:
        StoreIOError: if it cannot be written.
    """
    view = base / record.tree
    wanted = _links(record, objects, view)
    with reading(view):
        if _present(view) == wanted:
            return view
    with writing(view):
        _build(view, wanted, temporary)
    return view


def _links(record: Record, objects: Objects, view: Path) -> dict[str, str]:
    return {
        name: os.path.relpath(objects.path(entry.digest), (view / name).parent)
        for name, entry in record.files.items()
    }


def _present(view: Path) -> dict[str, str] | None:
    """Return name -> link target of what the view holds, None if it is not made of links."""
    found: dict[str, str] = {}
    if view.is_symlink() or not view.is_dir():
        return None
    for folder, folders, files in os.walk(view):
        for name in (*folders, *files):
            path = Path(folder, name)
            if path.is_symlink():
                found[path.relative_to(view).as_posix()] = str(path.readlink())
            elif name in files:
                return None
    return found


def _build(view: Path, wanted: dict[str, str], temporary: Path) -> None:
    draft, old = temporary_path(temporary), temporary_path(temporary)
    for name, target in wanted.items():
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        (draft / name).symlink_to(target)
    draft.mkdir(exist_ok=True)
    try:
        with contextlib.suppress(FileNotFoundError):
            view.rename(old)
        draft.rename(view)
    except OSError:
        # Another process built it in between: it made the same links.
        if _present(view) != wanted:
            raise
    finally:
        for leftover in (draft, old):
            shutil.rmtree(leftover, ignore_errors=True)
