"""Partial results that were damaged, cut short or made by something else are never taken up."""

import os
import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraknow_core.errors import CheckpointError
from paraknow_core.partial_results import PartialResults
from paraknow_core.seals import MANIFEST

RUN = "run"
Contents = dict[str, bytes]
contents = st.dictionaries(
    st.sampled_from(["weights", "optimizer.pt", "state.json"]), st.binary(max_size=40), min_size=1
)


def opened(folder: Path, said: list[str] | None = None, **more: Any) -> PartialResults:
    words: list[str] = [] if said is None else said
    return PartialResults(folder, tell=words.append, **{"made_by": {"code": "1"}} | more)


def save(partial: PartialResults, number: int, files: Contents, run: str = RUN) -> None:
    draft = partial.new_draft()
    for name, data in files.items():
        (draft / name).write_bytes(data)
    partial.save(draft, number, run)


def found(partial: PartialResults, run: str = RUN) -> tuple[int, Contents] | None:
    saved = partial.newest(run)
    if saved is None:
        return None
    read = {path.name: path.read_bytes() for path in saved.folder.iterdir()}
    read.pop(MANIFEST)
    return saved.number, read


@contextmanager
def place() -> Iterator[Path]:
    shared = Path("/dev/shm")  # no power fails here: syncs to a disk would only take time
    where = shared if os.access(shared, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder) / "resume"


def flip(path: Path, at: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)


def in_place_of(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


DAMAGE: dict[str, Callable[[Path, int], None]] = {
    "emptied": lambda path, _at: path.write_bytes(b""),
    "cut": lambda path, at: os.truncate(path, at % path.stat().st_size),
    "longer": lambda path, _at: path.write_bytes(path.read_bytes() + b"\0"),
    "missing": lambda path, _at: path.unlink(),
    "added": lambda path, at: (path.parent / f"more-{at}").write_bytes(b""),
    "link": lambda path, _at: in_place_of(path, lambda p: p.symlink_to(p.parent / MANIFEST)),
    "pipe": lambda path, _at: in_place_of(path, os.mkfifo),
    "folder": lambda path, _at: in_place_of(path, lambda p: p.mkdir()),
    "renumbered": lambda path, _at: _renumber(path.parent),
}


def _renumber(saved: Path) -> None:
    saved.rename(saved.with_name(f"{int(saved.name) + 9:0{len(saved.name)}d}"))


@settings(max_examples=80)
@given(
    st.lists(contents, min_size=1, max_size=3),
    st.sampled_from(["flipped", *DAMAGE]),
    st.integers(0, 2**20),
    st.integers(0, 7),
    st.data(),
)
def test_what_is_damaged_is_moved_aside_and_the_one_before_it_counts(
    saves: list[Contents], how: str, at: int, bit: int, data: st.DataObject
) -> None:
    with place() as folder:
        for number, files in enumerate(saves):
            save(opened(folder), number, files)
        newest = max((folder / "saved").iterdir())
        with_bytes = [p for p in sorted(newest.iterdir()) if p.stat().st_size]
        path = data.draw(st.sampled_from(with_bytes))
        flip(path, at, bit) if how == "flipped" else DAMAGE[how](path, at)

        said: list[str] = []
        older = (len(saves) - 2, saves[-2]) if len(saves) > 1 else None
        assert found(opened(folder, said)) == older
        (word,) = said
        (aside,) = folder.with_name("resume.aside").iterdir()
        assert str(aside) in word
        assert list(aside.iterdir())  # nothing is deleted
        assert found(opened(folder, said)) == older
        assert len(said) == 1  # it is told once


@settings(max_examples=30)
@given(st.integers(0, 2**20), st.integers(0, 7), st.booleans())
def test_it_is_checked_again_when_it_is_read(at: int, bit: int, in_manifest: bool) -> None:
    with place() as folder:
        partial = opened(folder)
        save(partial, 1, {"weights": b"one"})
        save(partial, 2, {"weights": b"two"})
        name = MANIFEST if in_manifest else "weights"
        flip(max((folder / "saved").iterdir()) / name, at, bit)
        assert found(partial) == (1, {"weights": b"one"})
        assert partial.find(2, RUN) is None


class CrashError(BaseException):
    """Ends a process, as far as the code under test can see."""


@settings(max_examples=60)
@given(st.lists(contents, min_size=1, max_size=2), contents, st.integers(1, 30))
def test_a_crash_anywhere_in_a_save_leaves_what_was_or_what_is_new(
    before: list[Contents], new: Contents, crash_at: int
) -> None:
    """Died before its n-th call that changes the disk, of saving or of deleting what is older."""
    number = len(before)
    with place() as folder, pytest.MonkeyPatch.context() as patch:
        for each, files in enumerate(before):
            save(opened(folder), each, files)
        partial, left = opened(folder), [crash_at]

        def dying(call: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **named: Any) -> Any:
                left[0] -= 1
                if left[0] == 0:
                    raise CrashError
                return call(*arguments, **named)

            return wrapped

        for owner, name in (
            *((Path, name) for name in ("write_bytes", "replace", "rename")),
            *((os, name) for name in ("fsync", "unlink", "rmdir")),
        ):
            patch.setattr(owner, name, dying(getattr(owner, name)))
        try:
            save(partial, number, new)
            partial.keep_newest(1)
        except CrashError:
            pass
        patch.undo()

        said: list[str] = []
        newest = found(opened(folder, said))
        assert newest in ((number - 1, before[-1]), (number, new))
        assert newest == (number, new) or left[0] <= 0
        assert not said  # a draft that was never finished is no partial result
        assert not list((folder / "drafts").iterdir())


def test_what_something_else_made_is_not_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "resume"
    save(opened(folder), 1, {"weights": b"one"})
    assert found(opened(folder)) == (1, {"weights": b"one"})
    said: list[str] = []
    assert found(opened(folder, said, made_by={"code": "2"})) is None
    assert len(said) == 1

    save(opened(folder), 1, {"weights": b"one"})
    assert found(opened(folder, differs=lambda made: "")) is not None
    assert found(opened(folder, said, differs=lambda made: f"code {made['code']}")) is None
    assert "code 1" in said[1]


def test_another_run_s_is_moved_aside_and_does_not_hide_ones_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    partial = opened(tmp_path / "resume")
    save(partial, 1, {"weights": b"mine"})
    save(partial, 2, {"weights": b"another's"}, run="other")
    assert found(partial) == (1, {"weights": b"mine"})
    assert "000000000002" in caplog.text
    assert found(opened(tmp_path / "resume"), run="other") is None


def test_what_holds_other_files_than_are_read_is_moved_aside(tmp_path: Path) -> None:
    """Code that computes the same numbers may have called its files something else."""
    partial = opened(tmp_path / "resume")
    save(partial, 1, {"weights": b"one"})
    save(partial, 2, {"sums": b"two"})
    found_now = partial.newest(RUN, ["weights"])
    assert found_now is not None
    assert found_now.number == 1
    assert partial.find(1, RUN, ["weights", "sums"]) is None
    assert [p.read_bytes() for p in tmp_path.glob("resume.aside/*/*/sums")] == [b"two"]


@pytest.mark.parametrize("stray", ["checkpoint-4/weights", "sums-000003.safetensors", "saved"])
def test_what_was_saved_without_digests_is_moved_aside(tmp_path: Path, stray: str) -> None:
    """As the version before wrote it, or anybody by hand."""
    folder = tmp_path / "resume"
    (folder / stray).parent.mkdir(parents=True)
    (folder / stray).write_bytes(b"unsealed")
    said: list[str] = []
    partial = opened(folder, said)
    assert found(partial) is None
    assert len(said) == 1
    assert [p.read_bytes() for p in tmp_path.glob(f"resume.aside/*/{stray}")] == [b"unsealed"]
    save(partial, 1, {"weights": b"one"})
    assert found(opened(folder, said)) == (1, {"weights": b"one"})
    assert len(said) == 1


def test_a_save_replaces_one_of_the_same_number_and_only_the_newest_stay(tmp_path: Path) -> None:
    partial = opened(tmp_path / "resume")
    for number in (8, 9, 10, 11):
        save(partial, number, {"weights": b"first"})
    save(partial, 11, {"weights": b"second"})
    partial.keep_newest(2)
    assert [int(p.name) for p in sorted((tmp_path / "resume" / "saved").iterdir())] == [10, 11]
    assert found(pickle.loads(pickle.dumps(partial))) == (11, {"weights": b"second"})


def test_a_draft_that_could_not_be_checked_later_is_refused(tmp_path: Path) -> None:
    partial = opened(tmp_path / "resume")
    draft = partial.new_draft()
    (draft / "inner").mkdir()
    with pytest.raises(CheckpointError, match="inner is no plain file"):
        partial.save(draft, 1, RUN)
