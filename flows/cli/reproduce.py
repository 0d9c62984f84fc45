"""``paraknow reproduce``: compute a stored result again and say how it compares."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.canonical import Json
from artifacts.queries.find import find_record
from flows.cli.store.options import JsonOption, KeyArgument, StoreOption, open_store, print_json
from flows.terminal import Terminal, say
from flows.text import name_of

if TYPE_CHECKING:
    from paraknow_core.file_differences import Difference, FileComparison
    from tasks.reproduce import Reproduction

SHOWN_PARTS = 10


def reproduce_command(
    key: KeyArgument,
    *,
    location: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=PATH",
            help="Where a model or data file lies now, if it has moved; it is checked against the "
            "recorded digests. May be repeated.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Compute in this new folder, and keep the files in its folder out."),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Compute a stored result again from its record, and compare the two byte by byte.

    Nothing is stored. Exits with 0 if every file has the same bytes, with 1 if not (the largest
    relative difference of each tensor, column or JSON number is printed), with 2 if it cannot be
    computed here.

    Examples:
    - `paraknow reproduce 3f9a1c`
    - `paraknow reproduce 3f9a1c --location teacher=/models/Llama-3.1-8B --json`
    """
    places = _places(location or [])
    opened = open_store(store)
    record = find_record(opened, key)

    from flows.cli.console import watching
    from tasks.engine.workers import WorkerPool, worker_pool
    from tasks.reproduce import reproduce

    with (
        watching(Terminal(stderr=True)),
        tempfile.TemporaryDirectory(prefix="paraknow-") as aside,
        # In a child: Ctrl-C can then end the computation, and gigabytes aside are taken away.
        worker_pool(WorkerPool(cpu=1)),
    ):
        work = _new_folder(out) if out else Path(aside)
        found = reproduce(opened, record, work=work, locations=places)
    if as_json:
        print_json(_as_json(found))
    else:
        say("\n".join(_lines(found)))
    if not found.equal:
        raise typer.Exit(1)


def _places(given: list[str]) -> dict[str, Path]:
    places = {}
    for text in given:
        role, equals, path = text.partition("=")
        if not role or not equals or not path:
            raise typer.BadParameter(f"--location {text!r}: write ROLE=PATH")
        places[role] = Path(path)
    return places


def _new_folder(folder: Path) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise typer.BadParameter(f"--out {folder}: it exists and is no empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _lines(found: "Reproduction") -> Iterator[str]:
    differing = [file for file in found.files if not file.equal]
    outcome = f"{len(differing)} differ" if differing else "all bit-equal"
    count = len(found.files)
    yield f"{name_of(found.record)}: {count} files, {outcome} (computed in {found.seconds:.1f} s)"
    if found.drift is not None:
        yield f"since it was made: {found.drift.text()}"
    for file in differing:
        yield from _file_lines(file)


def _file_lines(file: "FileComparison") -> Iterator[str]:
    if not file.differences:
        yield f"  {file.name}: the same values in other bytes"
        return
    yield f"  {file.name}: {len(file.differences)} differences"
    worst = sorted(file.differences, key=lambda part: -(part.relative or 0))
    for part in worst[:SHOWN_PARTS]:
        yield f"    {part.part or 'file'}: {_measure(part)}"
    if len(worst) > SHOWN_PARTS:
        yield f"    … and {len(worst) - SHOWN_PARTS} smaller ones (--json lists all)"


def _measure(part: "Difference") -> str:
    if part.note or part.relative is None or part.of_largest is None:
        return part.note
    return (
        f"largest relative difference {part.relative:.3g} "
        f"({part.of_largest:.3g} of the largest value)"
    )


def _as_json(found: "Reproduction") -> Json:
    files: list[Json] = [
        {
            "name": file.name,
            "equal": file.equal,
            "differences": [*map(_part_json, file.differences)],
        }
        for file in found.files
    ]
    return {
        "key": found.record.key,
        "step": found.record.step,
        "equal": found.equal,
        "seconds": round(found.seconds, 3),
        "drift": found.drift.text() if found.drift else None,
        "files": files,
    }


def _part_json(part: "Difference") -> Json:
    return {
        "part": part.part,
        "relative": _finite(part.relative),
        "of_largest": _finite(part.of_largest),
        "note": part.note,
    }


def _finite(value: float | None) -> float | None:
    """JSON has no infinity; the note says what happened."""
    return value if value is not None and math.isfinite(value) else None
