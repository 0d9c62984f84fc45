"""Files outside the store that change before or while a computation reads them."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts import folders
from artifacts.disk.digests import hash_file
from artifacts.disk.stamps import Stamp, StampCache
from artifacts.keys import KeyPayload
from paraknow_core.checkpoint.model_folder import model_files
from tasks.engine.partial import open_partial
from tasks.engine.source_files import (
    SourceChangedError,
    SourceFiles,
    unchanged,
)
from tasks.steps import STEPS

NAMES = ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the stamps of files that were written just now, as those of older ones."""
    monkeypatch.setattr(Stamp, "is_settled", lambda _stamp: True)


def write_folder(folder: Path, *, linked: bool = False) -> SourceFiles:
    """A folder with a model's kinds of files, or such a snapshot of links as the Hub's cache."""
    blobs = folder.with_name(f"{folder.name}-blobs") if linked else folder
    for place in {folder, blobs}:
        place.mkdir()
    for name in NAMES:
        (blobs / name).write_bytes(f"bytes of {name}".encode())
        if linked:
            (folder / name).symlink_to(os.path.relpath(blobs / name, folder))
    (folder / "notes.md").write_text("no loader reads this")
    return SourceFiles.of_model(folder, {n: hash_file(folder / n) for n in model_files(folder)})


def other_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return data[:-1] + bytes([data[-1] ^ 1])


def times_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_atime_ns, status.st_mtime_ns


def rewrite(path: Path) -> None:
    """In place, of the same size, with the time set back."""
    times = times_of(path)
    path.write_bytes(other_bytes(path))
    os.utime(path, ns=times)


def replace(path: Path) -> None:
    """By rename, of the same size and time, as rsync does it."""
    draft = path.with_name("draft.part")
    draft.write_bytes(other_bytes(path))
    os.utime(draft, ns=times_of(path))
    draft.replace(path)


def replace_and_put_back(path: Path) -> None:
    """Leaves the same inode, size and time; only the time of change shows it."""
    aside = path.with_name("aside.part")
    path.rename(aside)
    aside.with_name("other.part").write_bytes(other_bytes(aside))
    aside.with_name("other.part").replace(path)
    aside.replace(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:3])


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")


def vanish(path: Path) -> None:
    path.unlink()


def come(path: Path) -> None:
    path.with_name("added_tokens.json").write_text("{}")


def folder_gone(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved away"))


CHANGES: tuple[Callable[[Path], None], ...] = (
    *(rewrite, replace, cut, grow, vanish),
    *(come, folder_gone, replace_and_put_back),
)


def compute(files: SourceFiles, change: Callable[[], None], role: str = "teacher") -> None:
    """A computation during which something happens."""
    with unchanged({role: files}):
        change()


def nothing() -> None:
    pass


@settings(max_examples=40)
@given(
    name=st.sampled_from(NAMES),
    change=st.sampled_from(CHANGES),
    during=st.booleans(),
    linked=st.booleans(),
)
def test_a_change_is_refused_whenever_it_comes(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    change: Callable[[Path], None],
    during: bool,
    linked: bool,
) -> None:
    files = write_folder(tmp_path_factory.mktemp("home") / "model", linked=linked)
    compute(files, nothing)  # its bytes were read in this process: no first look saves the rest
    meddle = partial(change, files.folder / name)
    if not during:
        meddle()
    if change is replace_and_put_back and not during:
        compute(files, nothing)  # what is there again is what was digested
        return
    with pytest.raises(SourceChangedError, match="teacher") as refused:
        compute(files, meddle if during else pytest.fail)
    assert str(files.folder) in str(refused.value)
    assert ("added_tokens.json is new" in str(refused.value)) == (change is come and not during)


def test_what_no_loader_reads_may_change(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "model")
    compute(files, lambda: grow(tmp_path / "model" / "notes.md"))
    compute(files, lambda: (tmp_path / "model" / "run.log").write_text("new"))


def test_a_link_that_leads_elsewhere_is_another_file(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "model", linked=True)
    other = write_folder(tmp_path / "other")  # of the same bytes
    weights = tmp_path / "model" / "model.safetensors"

    def lead_elsewhere() -> None:
        weights.unlink()
        weights.symlink_to(other.folder / weights.name)

    with pytest.raises(SourceChangedError):
        compute(files, lead_elsewhere)


def test_an_error_that_the_change_caused_is_told_as_the_change(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("{}")
    files = SourceFiles.of_file(rows, hash_file(rows))

    def fail(change: Callable[[Path], None] | None) -> None:
        if change is not None:
            change(rows)
        raise ValueError("no JSON")

    with pytest.raises(ValueError, match="no JSON"):
        compute(files, partial(fail, None))
    with pytest.raises(SourceChangedError, match=r"data file .*rows\.jsonl changed while"):
        compute(files, partial(fail, cut))


def test_each_file_is_hashed_once_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_folder(tmp_path / "model")
    read: list[str] = []

    def counting(path: Path, **options: object) -> str:
        read.append(path.name)
        return hash_file(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(folders, "hash_file", counting)
    for _ in range(3):
        with unchanged({"teacher": files, "student": files}):
            pass
    assert sorted(read) == sorted(NAMES)


def test_a_file_written_just_now_is_read_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stamp may not show another change; one that shows nothing at all stands for that."""
    files = write_folder(tmp_path / "model")
    monkeypatch.setattr(Stamp, "is_settled", lambda _stamp: False)
    monkeypatch.setattr(Stamp, "of", classmethod(lambda cls, _status: cls(0, 0, 0, 0)))
    weights = tmp_path / "model" / "model.safetensors"
    with pytest.raises(SourceChangedError, match=r"model\.safetensors has other bytes"):
        compute(files, lambda: rewrite(weights))


def test_a_remembered_digest_that_is_wrong_is_not_believed_and_not_kept(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    (tmp_path / "tmp").mkdir()
    stamps = StampCache(tmp_path / "stat", tmp_path / "tmp", write=True)
    rewrite(weights)
    stamps.remember(str(weights), Stamp.of(weights.stat()), files.digests[weights.name])  # type: ignore[arg-type]
    assert not files.differing([weights.name], stamps=stamps)
    with pytest.raises(SourceChangedError), unchanged({"teacher": files}, stamps=stamps):
        pytest.fail("computed")
    assert files.differing([weights.name], stamps=stamps) == {weights.name: "has other bytes"}


def test_partial_results_are_used_again_only_for_files_that_nobody_touched(tmp_path: Path) -> None:
    files = write_folder(tmp_path / "model")
    payload = KeyPayload(step="sensitivity", version=1, config={}, inputs={})

    def run() -> bool:
        """Compute until killed; tells whether there was something to go on from."""
        partial = open_partial(
            STEPS["sensitivity"].compute,
            payload,
            tmp_path / "work" / "key" / "mine",
            sources={"teacher": files},
            label="sensitivity",
        )
        found = partial.newest("run") is not None
        draft = partial.new_draft()
        (draft / "sums").write_text("partial")
        partial.save(draft, 1, "run")
        return found

    assert not run()
    assert run()
    replace_and_put_back(tmp_path / "model" / "model.safetensors")
    assert not run()
    assert run()
