import errno
import os
from pathlib import Path

import pytest
from support.results import in_quarantine, payload, published

from artifacts.canonical import canonical_bytes
from artifacts.care.verify import verify
from artifacts.disk import files as store_files
from artifacts.disk.digests import digest_bytes
from artifacts.disk.stamps import Stamp
from artifacts.errors import (
    StoreFormatError,
    StoreIOError,
)
from artifacts.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


DAMAGES = {
    "flipped bit": flip,
    "truncated": lambda path: rewrite(path, path.read_bytes()[:-1]),
    "zero length": lambda path: rewrite(path, b""),
    "longer": lambda path: rewrite(path, path.read_bytes() + b"x"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("fresh", [True, False], ids=["other process", "same process"])
@pytest.mark.parametrize("victim", ["file", "tree", "record"])
def test_damage_is_never_returned_is_quarantined_and_heals(store, damage, fresh, victim):
    record = published(store)
    path = {
        "file": store.file_path(record, "u.bin"),
        "tree": store.objects.path(record.tree),
        "record": store.ledger.path(record.key),
    }[victim]
    damage(path)
    damaged = path.read_bytes()
    reader = Store.open(store.root) if fresh else store
    assert reader.lookup(record.key) is None
    assert reader.lookup(record.key) is None
    assert in_quarantine(store) == [damaged]
    healed = published(reader)
    assert healed.files == record.files
    assert Store.open(store.root).lookup(record.key) == healed
    assert verify(store) == []


def test_a_lost_object_heals_even_if_the_new_bytes_differ(store):
    record = store.publish(payload(), {"a": b"one run"})
    store.file_path(record, "a").unlink()
    assert store.lookup(record.key) is None
    healed = store.publish(payload(), {"a": b"another run"})
    assert store.file_path(healed, "a").read_bytes() == b"another run"
    assert store.lookup(record.key) == healed


def test_a_record_under_anothers_name_is_damage(store):
    record, other = published(store, 1), payload(2).key()
    store.ledger.path(other).write_bytes(store.ledger.path(record.key).read_bytes())
    assert store.lookup(other) is None
    assert store.lookup(record.key) == record


def test_a_record_with_a_good_check_but_anothers_tree_is_damage(store):
    record = published(store)
    body = record.as_json() | {"tree": "0" * 64}
    forged = {"record": body, "check": digest_bytes(canonical_bytes(body))}
    rewrite(store.ledger.path(record.key), canonical_bytes(forged))
    assert store.lookup(record.key) is None


def test_a_record_of_a_newer_format_is_refused_and_not_judged_damaged(store):
    record = published(store)
    body = record.as_json() | {"format": 2, "surprise": True}
    newer = canonical_bytes({"record": body, "check": digest_bytes(canonical_bytes(body))})
    rewrite(store.ledger.path(record.key), newer)
    with pytest.raises(StoreFormatError, match="format 2"):
        store.lookup(record.key)
    assert store.ledger.path(record.key).read_bytes() == newer


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
@pytest.mark.parametrize("victim", ["object", "record"])
def test_what_is_no_plain_file_is_never_opened(store, tmp_path, kind, victim):
    record = published(store)
    path = store.file_path(record, "u.bin") if victim == "object" else store.ledger.path(record.key)
    good = path.read_bytes()
    path.unlink()
    if kind == "link":
        (tmp_path / "copy").write_bytes(good)
        path.symlink_to(tmp_path / "copy")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert store.lookup(record.key) is None
    assert published(store).files == record.files
    assert store.lookup(record.key) is not None


def test_a_healed_object_is_not_quarantined_by_a_late_judge(store):
    """A reader judged a corrupt file; before it acts, a writer has put a good one there."""
    record = published(store)
    path = store.file_path(record, "u.bin")
    good = path.read_bytes()
    path.unlink()
    path.write_bytes(b"corrupt")
    judged = path.stat()
    replacement = store.root / "tmp" / "healed"
    replacement.write_bytes(good)
    replacement.rename(path)
    assert store.objects.quarantine(path, judged) is None
    assert path.read_bytes() == good


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("victim", ["object", "record"])
def test_a_read_error_is_no_corruption(store, monkeypatch, code, victim):
    record = published(store)
    bad = store.file_path(record, "u.bin") if victim == "object" else store.ledger.path(record.key)
    real = os.open

    def failing(path, *args, **kwargs):
        if Path(path) == bad:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *args, **kwargs)

    reader = Store.open(store.root, read_only=False)
    reader.stamps.forget(record.files["u.bin"].digest)
    monkeypatch.setattr(store_files, "_PAUSES", (0.0, 0.0))
    monkeypatch.setattr(os, "open", failing)
    with pytest.raises(StoreIOError, match=os.strerror(code)) as caught:
        reader.lookup(record.key)
    assert str(bad) in str(caught.value)
    monkeypatch.undo()
    assert in_quarantine(store) == []
    assert reader.lookup(record.key) == record


def test_a_read_error_that_passes_is_not_seen(store, monkeypatch):
    record = published(store)
    real, failures = os.open, [errno.EIO, errno.EMFILE]

    def failing(path, *args, **kwargs):
        if failures:
            raise OSError(failures.pop(), "passing")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(store_files, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "open", failing)
    assert store.lookup(record.key) == record


def test_verify_finds_what_a_stamp_hides_and_what_is_lost(store):
    """A bit that rots on the disk changes no stamp."""
    a, b = published(store, 1), store.publish(payload(2), {"x": b"xyz"})
    path = store.file_path(a, "u.bin")
    flip(path)
    store.stamps.remember(path.name, Stamp.of(path.stat()), path.name)
    assert store.lookup(a.key) == a  # the stamp says it was verified
    store.file_path(b, "x").unlink()
    problems = verify(store)
    assert {(p.kind, p.name) for p in problems} == {
        ("object", path.name),
        ("missing", a.key),
        ("missing", b.key),
    }
    assert store.lookup(a.key) is None


@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "other bytes"])
def test_a_file_put_over_ours_counts_by_its_bytes(store, monkeypatch, same):
    """Two writers of one object rename it one after the other; that is no fault of either."""
    data, digest = b"ours", digest_bytes(b"ours")
    rename = Path.rename

    def beaten(path: Path, target: Path) -> Path:
        done = rename(path, target)
        if target.name == digest:
            other = store.root / "tmp" / "other"
            other.write_bytes(data if same else b"else")
            rename(other, target)
        return done

    monkeypatch.setattr(Path, "rename", beaten)
    if same:
        assert store.objects.put_bytes(data).digest == digest
        assert store.objects.path(digest).read_bytes() == data
    else:
        with pytest.raises(StoreIOError, match="replaced while it was read"):
            store.objects.put_bytes(data)
        assert in_quarantine(store) == [b"else"]
