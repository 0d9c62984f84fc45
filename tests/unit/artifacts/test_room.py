"""What is said when there is no room: figures that show it, and what it is that ran out."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.disk import small_disk
from support.results import payload

from artifacts.disk.files import full_error, needing_room, writing
from artifacts.disk.sizes import size_text, unequal
from artifacts.errors import StoreFullError
from artifacts.store import Store
from flows.cli import main as cli
from flows.delivery.new_folder import new_folder
from paraknow_core.settings import Settings
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.stage import Stage
from tasks.engine.step import Job, Step


@given(need=st.integers(1, 10**15), free=st.integers(0, 10**15))
def test_two_sizes_that_differ_are_told_apart(need, free):
    first, second = unequal(need, free)
    assert (first == second) == (need == free)
    assert not first.startswith("0.0")
    assert (second[0] != "0") == (free > 0)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (140 * 10**9, "140.0 GB")],
)
def test_a_size_in_its_unit(size, text):
    assert size_text(size) == text


class Counts:
    """What ``statvfs`` tells of a file system."""

    def __init__(self, files: int, free: int) -> None:
        self.f_files, self.f_favail = files, free


@pytest.mark.parametrize(
    ("number", "files", "free", "said"),
    [
        (errno.ENOSPC, 100, 0, "no inodes are left there"),
        (errno.EDQUOT, 100, 0, "no inodes are left there"),
        (errno.EDQUOT, 100, 9, "quota of room or files (inodes) is used up"),
        (errno.ENOSPC, 100, 9, "5.0 kB are free"),
        (errno.ENOSPC, 0, 0, "5.0 kB are free"),  # a file system that does not count files
    ],
)
@pytest.mark.parametrize("how", ["python", "rust", "store"])
def test_what_ran_out_is_said_however_it_is_met(
    tmp_path, monkeypatch, number, files, free, said, how
):
    monkeypatch.setattr("artifacts.disk.files.os.statvfs", lambda _path: Counts(files, free))
    monkeypatch.setattr("artifacts.disk.files.free_bytes", lambda _path: 5000)
    text = os.strerror(number)
    error = OSError(number, text, str(tmp_path / "x"))
    if how == "rust":
        error = RuntimeError(f"Error while serializing: I/O error: {text} (os error {number})")
    around = writing(tmp_path) if how == "store" else needing_room(tmp_path)
    with pytest.raises(StoreFullError) as found, around:
        raise error
    assert said in str(found.value)
    assert str(found.value).startswith(f"cannot write {tmp_path}")


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), ValueError("no"), KeyError(28)])
def test_other_errors_stay_what_they_are(tmp_path, error):
    assert full_error(error, tmp_path) is None
    with pytest.raises(type(error)) as found, needing_room(tmp_path):
        raise error
    assert found.value is error


class NoSettings(Settings):
    pass


def fill(_job: Job[NoSettings]) -> dict[str, int]:
    """Fail as a library does that is written in Rust."""
    raise RuntimeError("I/O error: No space left on device (os error 28)")


def test_a_step_that_finds_the_disk_full_says_so(tmp_path):
    run = RunConfig(store=str(tmp_path / "store"))
    step = Step("fill", 1, Stage.REPORT, fill)
    with pytest.raises(StoreFullError, match="are free"):
        run_step(step, label="fill", config=NoSettings(), inputs={}, run=run)


def test_a_file_system_without_inodes(tmp_path):
    with small_disk(tmp_path / "small", 3) as disk:
        store = Store.open(disk / "store")
        used = os.statvfs(disk)
        count = used.f_files - used.f_ffree
        command = ["mount", "-o", f"remount,nr_inodes={count + 1}", str(disk)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not change a tmpfs; a disk without inodes was NOT tested")
        (disk / "last").touch()
        with pytest.raises(StoreFullError, match="no inodes are left"):
            store.publish(payload(), {"a": b"a"})
        with pytest.raises(StoreFullError, match="no inodes are left"), new_folder(disk / "out"):
            pass


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["paraknow", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.run_command()
    return int(end.value.code or 0)


def test_a_command_whose_disk_is_full_is_one_sentence(monkeypatch, capsys, tmp_path):
    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/some/where")

    monkeypatch.setattr("flows.cli.store.look.open_store", full)
    assert main(monkeypatch, "store", "ls", "--store", str(tmp_path)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot write /some/where: No space left on device")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [["store", "ls"], ["doctor"], ["transfer", "x.yaml"], ["deliver", "a", "b"], ["results"]],
    ids=" ".join,
)
def test_a_working_directory_that_is_gone_is_one_sentence(monkeypatch, capsys, tmp_path, command):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        assert main(monkeypatch, *command) == 2
    finally:
        os.chdir(tmp_path)
    assert "the working directory is gone" in capsys.readouterr().err
