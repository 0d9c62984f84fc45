import os
from pathlib import Path

import pytest
from blake3 import blake3

from artifacts.disk.digests import hash_file
from artifacts.disk.stamps import SETTLED_NS, Stamp, StampCache
from artifacts.errors import NameRefusedError, StoreIOError
from artifacts.folders import digest_folder
from artifacts.records import tree_digest


@pytest.fixture
def stamps(tmp_path: Path) -> StampCache:
    (tmp_path / "tmp").mkdir()
    return StampCache(tmp_path / "stat", tmp_path / "tmp", write=True)


def settled(path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a file and let the clock run past the time in which its stamp is not trusted."""
    path.write_bytes(data)
    now = path.stat().st_ctime_ns + SETTLED_NS + 1
    monkeypatch.setattr("artifacts.disk.stamps.time.time_ns", lambda: now)


def test_hash_file_is_blake3_of_the_bytes(tmp_path):
    data = os.urandom(9 * 1024 * 1024 + 17)
    (tmp_path / "f").write_bytes(data)
    seen = []
    digest = hash_file(
        tmp_path / "f", progress=lambda done, total, name: seen.append((done, total))
    )
    assert digest == blake3(data).hexdigest()
    assert seen[-1] == (len(data), len(data))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreIOError, match="absent"):
        hash_file(tmp_path / "absent.bin")


def test_a_folder_of_links_has_the_identity_of_a_plain_copy(tmp_path):
    blobs, snapshot, plain = (tmp_path / n for n in ("blobs", "snapshot", "plain"))
    for folder in (blobs, snapshot, plain):
        folder.mkdir()
    (blobs / "abc").write_bytes(b"weights")
    (snapshot / "model.safetensors").symlink_to("../blobs/abc")
    (plain / "model.safetensors").write_bytes(b"weights")
    names = ["model.safetensors"]
    assert tree_digest(digest_folder(snapshot, names)) == tree_digest(digest_folder(plain, names))


def test_identity_depends_on_names_and_bytes(tmp_path):
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    trees = {
        tree_digest(digest_folder(tmp_path, names)) for names in (["a"], ["b"], ["a", "c"], [])
    }
    assert len(trees) == 4


def test_an_unchanged_file_is_not_read_again(tmp_path, stamps, monkeypatch):
    file = tmp_path / "model.safetensors"
    settled(file, b"one", monkeypatch)
    first = digest_folder(tmp_path, [file.name], stamps=stamps)
    monkeypatch.setattr("artifacts.folders.hash_file", None)  # a second reading would fail
    assert digest_folder(tmp_path, [file.name], stamps=stamps) == first
    fresh = StampCache(tmp_path / "stat", tmp_path / "tmp", write=True)
    assert digest_folder(tmp_path, [file.name], stamps=fresh) == first


def test_a_changed_file_is_read_again_even_if_its_time_was_set_back(tmp_path, stamps, monkeypatch):
    file = tmp_path / "model.safetensors"
    settled(file, b"one", monkeypatch)
    before = file.stat()
    first = digest_folder(tmp_path, [file.name], stamps=stamps)
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest_folder(tmp_path, [file.name], stamps=stamps) != first


def test_a_file_changed_just_now_is_not_remembered(tmp_path, stamps):
    file = tmp_path / "f"
    file.write_bytes(b"one")
    digest_folder(tmp_path, ["f"], stamps=stamps)
    assert stamps.recall(str(file), Stamp.of(file.stat())) is None


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b'{"digest":"x","name":"n","stamp":[1,2,3,4]}', b"[]"]
)
def test_a_damaged_stamp_only_costs_a_second_reading(tmp_path, stamps, monkeypatch, garbage):
    file = tmp_path / "f"
    settled(file, b"one", monkeypatch)
    first = digest_folder(tmp_path, ["f"], stamps=stamps)
    (stored,) = (p for p in (tmp_path / "stat").rglob("*") if p.is_file())
    stored.write_bytes(garbage)
    fresh = StampCache(tmp_path / "stat", tmp_path / "tmp", write=True)
    assert fresh.recall(str(file), Stamp.of(file.stat())) is None
    assert digest_folder(tmp_path, ["f"], stamps=fresh) == first


def test_progress_counts_the_bytes_of_all_files(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 10)
    (tmp_path / "b").write_bytes(b"x" * 5)
    seen = []
    digest_folder(
        tmp_path, ["a", "b"], progress=lambda done, total, _name: seen.append((done, total))
    )
    assert seen[-1] == (15, 15)
    assert {total for _, total in seen} == {15}


def test_bad_inputs_are_named(tmp_path):
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("sub", "pipe", "absent"):
        with pytest.raises(StoreIOError, match=name):
            digest_folder(tmp_path, [name])
    for name in ("../x", "/etc/passwd", "", "a/../../b"):
        with pytest.raises(NameRefusedError):
            digest_folder(tmp_path, [name])
