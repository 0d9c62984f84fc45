"""A copy of the sources with an edit in it, taken for what the process runs."""

import shutil
from pathlib import Path

import pytest

import paraknow_core
import tasks
from tasks import drift, provenance
from tasks.sources import Sources


def edit_sources(folder: Path, monkeypatch: pytest.MonkeyPatch, *functions: str) -> None:
    """Decorate some functions, each given as ``tasks/align.py:_compute``, in a copy."""
    for package in (paraknow_core, tasks):
        root = Path(str(package.__file__)).parent
        shutil.copytree(root, folder / package.__name__, dirs_exist_ok=True)
    for function in functions:
        file, _, name = function.partition(":")
        text = (folder / file).read_text()
        assert f"def {name}(" in text
        (folder / file).write_text(text.replace(f"def {name}(", f"@edited\ndef {name}(", 1))
    sources = Sources({name: folder / name for name in ("paraknow_core", "tasks")})
    for module in (drift, provenance):
        monkeypatch.setattr(module, "present", lambda: sources)
