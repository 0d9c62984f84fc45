from pathlib import Path

import pytest
from support.results import in_quarantine, payload, published

from artifacts.errors import (
    StoreFullError,
    StoreReadOnlyError,
)
from artifacts.records import FileEntry, tree_digest
from artifacts.store import Store
from artifacts.work import aside_of, discard


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_a_read_only_store_is_read_and_refuses_before_any_work(store):
    record = published(store)
    store.tree_path(record)
    reader = Store.open(store.root, read_only=True)
    before = sorted(p for p in store.root.rglob("*"))
    assert reader.lookup(record.key) == record
    assert (reader.tree_path(record) / "u.bin").read_bytes() == b"u" * 1000
    with pytest.raises(StoreReadOnlyError, match="read-only"):
        reader.check_writable()
    with pytest.raises(StoreReadOnlyError, match="read-only"):
        published(reader, 2)
    assert sorted(p for p in store.root.rglob("*")) == before


def test_a_read_only_store_without_the_view_shows_files_elsewhere(store, tmp_path, monkeypatch):
    record = published(store)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    view = Store.open(store.root, read_only=True).tree_path(record)
    assert view.is_relative_to(tmp_path / "cache")
    assert (view / "sub/s.json").read_bytes() == b"{}"


def test_a_read_only_reader_leaves_damage_in_place_and_does_not_return_it(store):
    record = published(store)
    (store.file_path(record, "u.bin")).chmod(0o644)
    store.file_path(record, "u.bin").write_bytes(b"v" * 1000)
    reader = Store.open(store.root, read_only=True)
    assert reader.lookup(record.key) is None
    assert in_quarantine(store) == []
    assert published(store).files == record.files
    assert store.lookup(record.key) is not None


def test_a_plan_larger_than_the_disk_is_refused_with_both_numbers(store):
    with pytest.raises(StoreFullError, match=r"10\.0 PB"):
        store.check_writable(10**16)
    store.check_writable(1)
    assert list((store.root / "tmp").iterdir()) == []


def test_a_view_shows_names_and_survives_moving_the_store(store, tmp_path):
    record = published(store)
    view = store.tree_path(record)
    assert {p.relative_to(view).as_posix() for p in view.rglob("*") if p.is_file()} == set(
        record.files
    )
    store.root.rename(tmp_path / "moved")
    moved = Store.open(tmp_path / "moved")
    assert (moved.tree_path(moved.lookup(record.key)) / "u.bin").read_bytes() == b"u" * 1000
    assert (tmp_path / "moved/views" / record.tree / "sub/s.json").read_bytes() == b"{}"


def test_a_tampered_view_is_made_anew(store, tmp_path):
    record = published(store)
    view = store.tree_path(record)
    for tamper in (
        lambda: (view / "extra.json").write_text("{}"),
        (view / "u.bin").unlink,
        lambda: ((view / "u.bin").unlink(), (view / "u.bin").symlink_to("/etc/passwd")),
        lambda: ((view / "u.bin").unlink(), (view / "u.bin").write_text("mine")),
        lambda: (view.rename(tmp_path / "v"), view.symlink_to(tmp_path / "v")),
    ):
        tamper()
        assert store.tree_path(record) == view
        assert not view.is_symlink()
        assert (view / "u.bin").read_bytes() == b"u" * 1000
        assert not (view / "extra.json").exists()


def test_a_record_without_files_has_an_empty_view(store):
    view = store.tree_path(store.publish(payload(), {}, facts={"x": 1}))
    assert list(view.iterdir()) == []


def test_the_next_holder_finds_what_the_last_one_left(store):
    key = payload().key()
    with store.lease(key) as held:
        assert held
        first = store.workdir(key, adopt=held)
        (first / "partial").write_text("half")
    with store.lease(key) as held:
        second = store.workdir(key, adopt=held)
    assert (second / "partial").read_text() == "half"
    assert not first.exists()


def test_what_was_moved_aside_and_what_is_no_folder_is_not_adopted(store):
    key = payload().key()
    first = store.workdir(key, adopt=True)
    (aside_of(first) / "damaged").mkdir(parents=True)
    (first.parent / "stray").write_text("no folder")
    (first.parent / "link").symlink_to(first)
    second = store.workdir(key, adopt=True)
    assert not first.exists()
    discard(store.root / "work", second)
    third = store.workdir(key, adopt=True)
    assert list(third.iterdir()) == []
    assert (aside_of(first) / "damaged").exists()
    assert (first.parent / "stray").exists()


def test_without_the_lease_the_work_folder_is_ones_own(store):
    key = payload().key()
    with store.lease(key) as held, store.lease(key, wait=0) as second:
        assert (held, second) == (True, False)
        mine = store.workdir(key, adopt=held)
        other = store.workdir(key, adopt=second)
        assert mine != other
        discard(store.root / "work", other)
        assert mine.exists()


def test_waiting_ends_when_the_record_appears(store):
    key, waited = payload().key(), []

    def appear(seconds: float) -> None:
        waited.append(seconds)
        published(Store.open(store.root))

    with store.lease(key), store.lease(key, on_wait=appear) as second:
        assert not second
    assert len(waited) == 1


def test_lock_trouble_only_costs_the_lease(store):
    (store.root / "leases").rmdir()
    (store.root / "leases").write_text("in the way")
    with store.lease(payload().key()) as held:
        assert not held
        published(store)


def test_an_error_inside_a_lease_comes_out_and_frees_it(store):
    with pytest.raises(ZeroDivisionError), store.lease(payload().key()):
        raise ZeroDivisionError
    with store.lease(payload().key(), wait=0) as held:
        assert held


def test_discarding_work_touches_nothing_else(store, tmp_path):
    discard(store.root / "work", tmp_path)
    assert tmp_path.exists()


def test_a_tree_digest_is_that_of_a_folder_with_the_same_files(store):
    record = published(store)
    again = {name: FileEntry(e.digest, e.size) for name, e in reversed(record.files.items())}
    assert tree_digest(again) == record.tree
