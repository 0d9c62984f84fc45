"""A copy of the sources with edits in it, which drift reads in place of the real sources."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import paraknow_core
import tasks
from tasks.engine import provenance
from tasks.engine.code import drift
from tasks.engine.code.reached import Sources

NEW_ENTRIES = {
    "paraknow_core/extraction/structures/__init__.py": (
        '"consistent": Structure(',
        '"a-new-one": each_matrix(neuron)',
    ),
    "paraknow_core/models/family_tables.py": ('"gpt2": Family(', '"a-new-one": Family(_DECODER)'),
    "paraknow_core/methods.py": (
        '"pissa": PISSA,',
        '"a-new-one": MILORA',
    ),
    "paraknow_core/alignment/layers.py": ('"uniform": _uniform', '"a-new-one": _first'),
    "paraknow_core/data/templates.py": ('"none": none', '"a-new-one": tulu'),
    "paraknow_core/evaluation/match.py": ('"exact": whole_text', '"a-new-one": last_number'),
    "paraknow_core/evaluation/metrics.py": ('"answer_nll": Metric(', '"a-new-one": Metric()'),
    "paraknow_core/initialisation/controls.py": (
        '"same-spectrum": same_spectrum',
        '"a-new-one": same_spectrum',
    ),
    "paraknow_core/initialisation/student.py": ('"pissa": _pissa', '"a-new-one": _milora'),
}
"""File of a registry → an entry of it, and one that a user might add before it."""


def copy_of_sources(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, made_by: bool = False
) -> Callable[[str, str, str], None]:
    """Copy the sources; returns a function that replaces a text in one of the copied files.

    With ``made_by``, what is computed from then on is made by the edited copy too.
    """
    for package in (paraknow_core, tasks):
        root = Path(str(package.__file__)).parent
        shutil.copytree(root, folder / package.__name__, dirs_exist_ok=True)

    def edit(file: str, old: str, new: str) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1))
        sources = Sources({name: folder / name for name in ("paraknow_core", "tasks")})
        for module in (drift, provenance) if made_by else (drift,):
            monkeypatch.setattr(module, "present", lambda: sources)

    return edit


def edit_sources(folder: Path, monkeypatch: pytest.MonkeyPatch, *functions: str) -> None:
    """Decorate some functions, each given as ``tasks/align.py:_compute``, in a copy."""
    edit = copy_of_sources(folder, monkeypatch, made_by=True)
    for function in functions:
        file, _, name = function.partition(":")
        edit(file, f"def {name}(", f"@edited\ndef {name}(")
