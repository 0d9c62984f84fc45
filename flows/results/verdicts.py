"""The verdicts of every run of a comparison, kept beside its page, and which of them changed."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flows.results.dataset import pages_folder
from paraknow_core.durable_files import make_folder, settle
from paraknow_core.strict_data import NotStrictError, parse_json

_RUN: Final = r"\d{8}T\d{6}Z-[0-9a-f]{8}"
"""As `new_run` makes them; they sort by time."""
_BRACKETS: Final = re.compile(r"\s*\([^()]*\)")
_NUMBER: Final = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def kind_of(sentence: str) -> str:
    """Return what a verdict says without its numbers, which every new result changes."""
    return _NUMBER.sub("#", _BRACKETS.sub("", sentence))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Return cell → its earlier sentence, where the two runs say something else.

    Args:
        before: cell → sentence, of the earlier run.
        now: the same, of this run; a cell that is new has not changed.
    """
    return {
        cell: before[cell]
        for cell, sentence in now.items()
        if cell in before and kind_of(before[cell]) != kind_of(sentence)
    }


def put_verdicts(folder: Path, comparison: str, run: str, verdicts: Mapping[str, str]) -> None:
    """Keep a run's verdicts beside its page.

    Args:
        folder: of the data set of results.
        comparison: name of the comparison.
        run: from `new_run`.
        verdicts: cell → sentence.
    """
    place = pages_folder(folder)
    make_folder(place)
    draft, final = place / f".{run}.json", place / f"{comparison}-{run}.json"
    draft.write_text(json.dumps(dict(verdicts), ensure_ascii=False, indent=1), encoding="utf-8")
    settle(draft, final)


def earlier_verdicts(folder: Path, comparison: str) -> dict[str, str]:
    """Return the last run's verdicts that were kept; none before the first, or if unreadable."""
    named = re.compile(rf"{re.escape(comparison)}-({_RUN})\.json")
    runs = {
        found[1]: file
        for file in pages_folder(folder).glob("*.json")
        if (found := named.fullmatch(file.name))
    }
    if not runs:
        return {}
    try:
        told = parse_json(runs[max(runs)].read_bytes())
    except (OSError, NotStrictError):
        return {}
    return {str(cell): str(said) for cell, said in told.items()} if isinstance(told, dict) else {}
