"""Prefect's own folder: where it cannot be written, a temporary one takes its place."""

import atexit
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

DEFAULT: Final = "~/.prefect"
_DATABASE: Final = "prefect.db"


def replace_unusable_home(environ: MutableMapping[str, str]) -> Path | None:
    """Set PREFECT_HOME to a temporary folder if Prefect could not write its own.

    Prefect's server would not start without it, and its client would wait minutes for that. To be
    called before Prefect is imported, which reads the variable.

    Returns:
        The folder that cannot be written, or None if there is no need.
    """
    home = Path(environ.get("PREFECT_HOME") or DEFAULT).expanduser()
    if is_usable(home):
        return None
    aside = tempfile.mkdtemp(prefix="paraknow-prefect-")
    atexit.register(shutil.rmtree, aside, ignore_errors=True)
    environ["PREFECT_HOME"] = aside
    return home


def is_usable(home: Path) -> bool:
    """Tell whether files can be made in ``home``, or it can be made; nothing is tried out."""
    try:
        there = next(folder for folder in (home, *home.parents) if folder.exists())
        database = home / _DATABASE
        return (
            there.is_dir()
            and os.access(there, os.W_OK | os.X_OK)
            and (not database.exists() or os.access(database, os.W_OK))
        )
    except OSError:
        return False
