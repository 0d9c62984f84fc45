import json
import multiprocessing as mp
import os
import stat
from pathlib import Path

import pytest
from support.patience import PATIENCE
from support.results import payload, publish_at_once, published

from artifacts.disk.locations import default_store_root
from artifacts.errors import (
    CanonicalError,
    NameRefusedError,
    StoreFormatError,
    StoreIOError,
    UnknownKeyError,
)
from artifacts.queries.find import find_record
from artifacts.records import tree_digest
from artifacts.store import Store
from artifacts.work import discard


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_a_store_opens_again_as_the_same_store(store):
    assert Store.open(store.root).info == store.info


@pytest.mark.parametrize("at", ["missing/deep/store", "empty"])
def test_a_missing_or_empty_folder_becomes_a_store(tmp_path, at):
    (tmp_path / "empty").mkdir()
    assert Store.open(tmp_path / at).lookup(payload().key()) is None


def test_a_creation_cut_short_is_completed(store):
    (store.root / "store.json").unlink()
    (store.root / "records" / "00").rmdir()
    published(Store.open(store.root))


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(StoreFormatError, match=r"thesis\.tex"):
        Store.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("change", [{"format": 2}, {"hash": "sha256"}])
def test_a_newer_store_is_refused_and_left_alone(store, change):
    path = store.root / "store.json"
    value = json.loads(path.read_bytes()) | change
    path.unlink()
    path.write_text(json.dumps(value))
    with pytest.raises(StoreFormatError, match="Upgrade paraknow"):
        Store.open(store.root)
    assert json.loads(path.read_bytes()) == value


def test_a_damaged_store_file_says_how_to_mend_it(store):
    record = published(store)
    (store.root / "store.json").chmod(0o644)
    (store.root / "store.json").write_bytes(b"")
    with pytest.raises(StoreFormatError, match="delete this one file"):
        Store.open(store.root)
    (store.root / "store.json").unlink()
    assert Store.open(store.root).lookup(record.key) == record


def test_a_link_in_place_of_a_store_folder_is_refused(store, tmp_path):
    (store.root / "quarantine").rmdir()
    (store.root / "quarantine").symlink_to(tmp_path)
    with pytest.raises(StoreFormatError, match="quarantine is no plain folder"):
        Store.open(store.root)


def test_reading_where_there_is_no_store_creates_nothing(tmp_path):
    with pytest.raises(StoreFormatError, match="no store at"):
        Store.open(tmp_path / "s", read_only=True)
    assert not (tmp_path / "s").exists()


def test_the_default_place(monkeypatch, tmp_path):
    monkeypatch.setenv("PARAKNOW_STORE", str(tmp_path / "here"))
    assert default_store_root() == tmp_path / "here"
    monkeypatch.delenv("PARAKNOW_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_store_root().is_relative_to(tmp_path / "cache")


def test_what_was_published_is_found_with_its_bytes_and_facts(store):
    record = published(store)
    found = Store.open(store.root).lookup(payload().key())
    assert found == record
    assert found.payload == payload()
    assert found.facts == {"energy": 0.5}
    assert store.file_path(record, "u.bin").read_bytes() == b"u" * 1000
    assert record.size == 1002
    assert record.tree == tree_digest(record.files)
    assert list(store.records()) == [record]


def test_a_file_that_does_not_belong_among_the_records_is_passed_over(store):
    record = published(store)
    (store.root / "records" / ".DS_Store").write_bytes(b"?")
    (store.root / "records" / record.key[:2] / "notes.txt").write_text("mine")
    assert list(store.records()) == [record]
    assert find_record(store, record.key[:8]) == record


def test_an_unknown_key_is_a_miss(store):
    published(store)
    assert store.lookup(payload(8).key()) is None


def test_equal_bytes_are_stored_once(store):
    a, b = store.publish(payload(1), {"a": b"same"}), store.publish(payload(2), {"b": b"same"})
    assert store.file_path(a, "a") == store.file_path(b, "b")


def test_objects_and_records_are_read_only(store):
    record = published(store)
    for path in (store.file_path(record, "u.bin"), store.ledger.path(record.key)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_work_files_are_moved_and_outside_files_copied(store, tmp_path):
    with store.lease(payload().key()) as held:
        work = store.workdir(payload().key(), adopt=held)
        (work / "mine.bin").write_bytes(b"mine")
        inode = (work / "mine.bin").stat().st_ino
        (tmp_path / "yours.bin").write_bytes(b"yours")
        record = store.publish(
            payload(), {"mine": work / "mine.bin", "yours": tmp_path / "yours.bin"}
        )
        discard(store.root / "work", work)
    assert store.file_path(record, "mine").stat().st_ino == inode
    assert (tmp_path / "yours.bin").read_bytes() == b"yours"
    assert list((store.root / "work").iterdir()) == []


def test_a_work_file_with_a_second_name_is_copied(store, tmp_path):
    """Whoever holds the other name could write through it into the store."""
    work = store.workdir(payload().key(), adopt=False)
    (work / "f").write_bytes(b"first")
    os.link(work / "f", tmp_path / "other")
    record = store.publish(payload(), work)
    (tmp_path / "other").write_bytes(b"later")
    assert store.file_path(record, "f").read_bytes() == b"first"


def test_a_folder_is_published_with_its_subfolders(store, tmp_path):
    (tmp_path / "out/a").mkdir(parents=True)
    (tmp_path / "out/a/b.json").write_bytes(b"[]")
    (tmp_path / "out/c").write_bytes(b"c")
    assert set(store.publish(payload(), tmp_path / "out").files) == {"a/b.json", "c"}


@pytest.mark.parametrize("name", ["../x", "/abs", "a/../b", ".hidden", "a\0b", "", "a b"])
def test_bad_names_are_refused(store, name):
    with pytest.raises(NameRefusedError):
        store.publish(payload(), {name: b""})


def test_a_name_cannot_be_file_and_folder(store):
    with pytest.raises(NameRefusedError, match="both a file and the folder"):
        store.publish(payload(), {"a": b"", "a/b": b""})


def test_links_and_pipes_are_not_published(store, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(NameRefusedError, match="passwd"):
        store.publish(payload(), folder)
    with pytest.raises(StoreIOError, match="passwd"):
        store.publish(payload(), {"x": folder / "passwd"})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StoreIOError, match="pipe"):
        store.publish(payload(), {"x": tmp_path / "pipe"})
    assert store.lookup(payload().key()) is None


def test_facts_that_are_no_json_are_refused_before_anything_is_written(store):
    with pytest.raises(CanonicalError, match="facts"):
        store.publish(payload(), {"a": b"a"}, facts={"x": object()})
    assert store.objects.digests() == []


def test_the_first_writer_wins_and_the_second_gets_its_record(store):
    first = store.publish(payload(), {"a": b"first"})
    second = Store.open(store.root).publish(payload(), {"a": b"second"})
    assert second == first


def test_two_processes_that_publish_one_key_at_once_agree(store):
    count, context = 20, mp.get_context("spawn")
    barrier, results = context.Barrier(2, timeout=PATIENCE), context.Queue()
    writers = [
        context.Process(target=publish_at_once, args=(store.root, text, count, barrier, results))
        for text in (b"left", b"right")
    ]
    for writer in writers:
        writer.start()
    got = [results.get(timeout=PATIENCE) for _ in range(2 * count)]
    for writer in writers:
        writer.join()
    for rank in range(count):
        assert {tree for r, tree in got if r == rank} == {store.lookup(payload(rank).key()).tree}


@pytest.mark.parametrize("reading", [1, 2])
@pytest.mark.parametrize("damaged", [False, True], ids=["new key", "healing"])
def test_a_rival_that_publishes_at_any_reading_is_agreed_with(store, monkeypatch, reading, damaged):
    """The rival comes right after the publisher's first, second, … look at the records."""
    rival, key = Store.open(store.root), payload().key()
    if damaged:
        store.file_path(published(store), "u.bin").unlink()
    real, readings = store.ledger.current, []

    def current(asked):
        found = real(asked)
        readings.append(found)
        if len(readings) == reading:
            readings.append(rival.publish(payload(), {"a": b"rival"}))
        return found

    monkeypatch.setattr(store.ledger, "current", current)
    mine = store.publish(payload(), {"a": b"mine"})
    assert store.lookup(key) == mine
    assert mine in readings


def test_a_replacement_is_a_new_generation_and_counts_from_then_on(store):
    first = store.publish(payload(), {"a": b"old"})
    second = store.publish(payload(), {"a": b"new"}, replaces=first)
    assert second.generation == 1
    assert store.lookup(first.key) == second
    assert store.publish(payload(), {"a": b"newer"}, replaces=first) == second
    assert list(store.records()) == [second]


def test_find_takes_any_unique_prefix(store):
    keys = {published(store, rank).key for rank in range(20)}
    for key in keys:
        assert find_record(store, key).key == key
    first = sorted(keys)[0]
    length = next(n for n in range(1, 65) if sum(k.startswith(first[:n]) for k in keys) == 1)
    assert find_record(store, first[:length]).key == first
    shared = next(k[0] for k in keys if sum(o.startswith(k[0]) for o in keys) > 1)
    with pytest.raises(UnknownKeyError, match="give more digits"):
        find_record(store, shared)
    for absent in ("", "zz", "../..", "f" * 64):
        with pytest.raises(UnknownKeyError):
            find_record(store, absent)


def test_a_file_that_a_record_lacks_is_refused_with_those_it_has(store):
    with pytest.raises(UnknownKeyError, match=r"no file 'v.bin'.*u\.bin"):
        store.file_path(published(store), "v.bin")
