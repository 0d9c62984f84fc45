"""Small JSON files of artifacts, written one way: equal contents are equal bytes."""

import json
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
