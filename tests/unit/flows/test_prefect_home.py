"""Prefect's folder: used where it can be, replaced where it cannot."""

import os
from pathlib import Path

import pytest

from flows.server.prefect_home import replace_unusable_home

HOMES = {
    "there": True,
    "to be made/deep/down": True,
    "a file": False,
    "a file/below": False,
    "locked": False,
    "locked/below": False,
    "foreign database": False,
}


@pytest.mark.parametrize(("name", "usable"), HOMES.items())
@pytest.mark.parametrize("variable", ["PREFECT_HOME", "HOME"])
def test_a_home_that_cannot_be_written_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, usable: bool, variable: str
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a file").touch()
    (tmp_path / "locked").mkdir()
    for folder in ("foreign database", "foreign database/.prefect"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prefect.db").touch()
    allowed = os.access

    def access(path: Path, mode: int) -> bool:  # root may write everywhere
        return path.name not in ("locked", "prefect.db") and allowed(path, mode)

    monkeypatch.setattr("os.access", access)
    environ = {variable: str(tmp_path / name)}
    monkeypatch.setenv("HOME", environ.get("HOME", "/nowhere"))

    replaced = replace_unusable_home(environ)
    if usable:
        assert replaced is None
        assert environ == {variable: str(tmp_path / name)}
    else:
        assert replaced is not None
        assert replaced.is_relative_to(tmp_path / name)
        (Path(environ["PREFECT_HOME"]) / "made").touch()
        (Path(environ["PREFECT_HOME"]) / "made").unlink()
