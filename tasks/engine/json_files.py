"""Small JSON files of artifacts, written one way (equal contents are equal bytes), and paths."""

import json
import math
import stat
from pathlib import Path
from typing import Any

from paraknow_core import strict_data
from paraknow_core.errors import DataError


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` indented, with sorted keys; NaN and infinity are refused."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
    path.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read what ``write_json`` wrote.

    Raises:
        DataError: if it is no such file any more; names the line.
    """
    return strict_data.read_json(path, refuse=DataError)


def kind_of(path: Path) -> str:
    """Tell what stands at a path that a person gave: ``file``, ``folder``, ``other``, or nothing.

    Nothing, an empty text, is also what cannot be looked at: too long a name, a name with NUL or
    outside the file system's encoding, a folder without permission.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return ""
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def finite(value: Any) -> Any:
    """Return a value with every number in it that JSON does not know, infinity or NaN, as None."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
