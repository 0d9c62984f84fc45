"""How ``paraknow store`` reads ages and sizes, opens the store, and prints."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer

from artifacts.canonical import Json
from artifacts.disk.locations import STORE_VARIABLE, default_store_root
from artifacts.store import Store
from flows.terminal import say
from flows.text import value_text
from paraknow_core.printable import one_line

_SECONDS: Final = {"min": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}
_BYTES: Final = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_AMOUNT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)")

StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        envvar=STORE_VARIABLE,
        help="The store's folder; a per-user cache folder if not given.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
KeyArgument = Annotated[str, typer.Argument(help="A key, or the first digits of one.")]


def open_store(root: Path | None) -> Store:
    """Open an existing store, writable if it can be; never create one."""
    root = root or default_store_root()
    exists = (root / "store.json").exists()
    return Store.open(root, read_only=not (exists and os.access(root, os.W_OK)))


def parse_age(text: str) -> float:
    """Return the seconds of an age such as ``90min``, ``12h``, ``30d``, ``2w``.

    Raises:
        typer.BadParameter: for anything else.
    """
    return _amount(text, _SECONDS, "an age such as 90min, 12h, 30d or 2w")


def parse_size(text: str) -> int:
    """Return the bytes of a size such as ``500MB`` or ``1.5GB``, decimal as disks are sold.

    Raises:
        typer.BadParameter: for anything else.
    """
    return int(_amount(text, _BYTES, "a size such as 500MB or 1.5GB"))


def _amount(text: str, units: dict[str, float] | dict[str, int], wanted: str) -> float:
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].lower() not in units:
        raise typer.BadParameter(f"{text!r} is not {wanted}")
    return float(match[1]) * units[match[2].lower()]


def print_json(value: Json | list[dict[str, Json]]) -> None:
    """Print a value for a program to read."""
    say(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table, its columns as wide as they need to be; rich takes 1 ms for a row."""
    lines = [list(columns), *([one_line(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    told = (zip(line, widths, strict=True) for line in lines)
    # At once: each piece that is printed is flushed, and with many lines that takes the longest.
    say("\n".join("  ".join(c.ljust(w) for c, w in cells).rstrip() for cells in told))


def print_fields(title: str, fields: dict[str, Json]) -> None:
    """Print a titled list of fields, if there are any."""
    if not fields:
        return
    say(title)
    for name, value in sorted(fields.items()):
        say(f"  {one_line(name)}: {value_text(value)}")
    say("")
