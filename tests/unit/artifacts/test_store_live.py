"""What a run was handed is there until it ends, whatever is collected meanwhile."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.results import payload, published

from artifacts import live
from artifacts.care import take
from artifacts.care.gc import Policy, collect
from artifacts.care.pins import keys_in_use
from artifacts.errors import StoreBusyError
from artifacts.live import keeping
from artifacts.records import Record
from artifacts.store import Store
from paraknow_core.settings import Settings
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.stage import Stage
from tasks.engine.step import Job, Step

ALL = Policy(grace=0, max_bytes=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def live_files(store: Store) -> list[Path]:
    folder = store.root / "pins" / "live"
    return list(folder.iterdir()) if folder.exists() else []


class Run:
    """A run that comes along in the middle of a collection, and what it was handed."""

    def __init__(self, store: Store, rank: int, publishes: bool) -> None:
        self.store, self.rank, self.publishes = store, rank, publishes
        self.handed: dict[Path, bytes] = {}

    def come_along(self) -> None:
        found = self.store.lookup(payload(self.rank).key())
        if found is None and self.publishes:
            found = self.store.publish(payload(self.rank), {"a": b"shared", "b": b"%d" % self.rank})
        if found is not None:
            self.hand_out(found)

    def hand_out(self, record: Record) -> None:
        view = self.store.tree_path(record)
        self.handed = {view / name: (view / name).read_bytes() for name in record.files}

    def check(self) -> None:
        for path, data in self.handed.items():
            assert path.read_bytes() == data, f"{path} was taken from under a run"


def collection_beside_a_run(store: Store, moment: int, rank: int, publishes: bool) -> Run:
    """Collect everything; before its n-th batch a run comes along, which then always looks."""
    began, rename = [0], os.rename
    run = Run(store, rank, publishes)
    for number in (1, 2):
        record = store.publish(payload(number), {"a": b"shared", "b": b"%d" % number})
        store.tree_path(record)
    store.objects.put_bytes(b"%d" % 3)  # what the run's own result will find in place

    def taking(root):
        began[0] += 1
        if began[0] == moment:
            run.come_along()
        return live.taking(root)

    def renamed(*arguments, **named):
        rename(*arguments, **named)
        run.check()

    with pytest.MonkeyPatch.context() as patch, keeping():
        patch.setattr(take, "_BATCH", 1)
        patch.setattr(take, "taking", taking)
        patch.setattr(os, "rename", renamed)
        collect(store, ALL)
        run.check()
        for path in run.handed:
            assert store.lookup(payload(rank).key()) is not None, path
    collect(store, ALL)
    assert list(store.records()) == []
    return run


def test_what_a_run_was_handed_is_there_at_every_moment(store):
    handed = []

    @settings(max_examples=40)
    @given(moment=st.integers(1, 12), rank=st.integers(1, 3), publishes=st.booleans())
    def at_any(moment: int, rank: int, publishes: bool) -> None:
        handed.append(bool(collection_beside_a_run(store, moment, rank, publishes).handed))

    at_any()
    assert sum(handed) > len(handed) / 4, "few runs were handed anything: little was tested"


@pytest.mark.parametrize("wrong", ["reads no pins", "writes no pins"])
def test_without_the_pins_it_is_found_out(store, monkeypatch, wrong):
    if wrong == "reads no pins":
        monkeypatch.setattr(take, "keys_in_use", lambda _store, _now: (set(), []))
    else:
        monkeypatch.setattr(live._LivePin, "add", lambda _self, _keys: None)
    moments = iter(range(1, 9))
    with pytest.raises((AssertionError, OSError)):
        all(collection_beside_a_run(store, moment, 1, publishes=True) for moment in moments)


class NoSettings(Settings):
    pass


def say_hello(job: Job[NoSettings]) -> dict[str, int]:
    """Write one file."""
    (job.out / "said.txt").write_text("hello")
    return {}


def test_a_run_never_has_to_be_started_again_because_of_a_collection(store):
    """What one step made, or found, is there for the next, however long that takes to begin."""
    run, step = RunConfig(store=str(store.root)), Step("say-hello", 1, Stage.REPORT, say_hello)
    for cached in (False, True):
        with keeping():
            ref = run_step(step, label="hello", config=NoSettings(), inputs={}, run=run)
            assert ref.cached == cached
            folder = folder_of(store, ref)
            collect(store, ALL)
            assert (folder / "said.txt").read_text() == "hello"
            assert folder_of(store, ref) == folder
    collect(store, ALL)
    assert store.lookup(ref.key) is None


def test_a_replaced_generation_that_a_run_reads_stays_with_it(store):
    old = published(store)
    with keeping():
        store.lookup(old.key)
        view = store.tree_path(old)
        new = store.publish(payload(), {"other": b"bytes"}, replaces=old)
        collect(store, ALL)
        assert (view / "u.bin").read_bytes() == b"u" * 1000
        assert store.lookup(old.key) == new
    collect(store, Policy(grace=0))
    assert not view.exists()


def test_one_file_a_run_that_nested_parts_share(store):
    with keeping():
        with keeping():
            store.lookup(payload(1).key())
            (file,) = live_files(store)
        for rank in (1, 2, 2):
            store.lookup(payload(rank).key())
        assert live_files(store) == [file]
        assert file.read_bytes().count(b"\n") == 2
        assert keys_in_use(store, 0)[0] == {payload(1).key(), payload(2).key()}
    assert live_files(store) == []


def test_a_line_that_a_full_disk_cut_off_does_not_spoil_the_next(store):
    with keeping():
        store.lookup(payload(1).key())
        (file,) = live_files(store)
        with file.open("ab") as out:
            out.write(b"\n" + payload(2).key()[:30].encode())
        store.lookup(payload(3).key())
        assert keys_in_use(store, 0)[0] == {payload(1).key(), payload(3).key()}


def test_a_run_goes_on_where_no_pin_can_be_written(store, caplog, monkeypatch):
    record = published(store)
    monkeypatch.setattr(live, "write_all", None)
    monkeypatch.setattr(live, "temporary_path", lambda _folder: Path("/proc/no/such/place"))
    with keeping():
        assert store.lookup(record.key) == record
        assert store.lookup(record.key) == record
    assert caplog.text.count("cannot mark results as in use") == 1


def test_without_file_locks_runs_and_collections_go_on(store, monkeypatch):
    """And a dead run's pin does not keep things for ever: its age tells."""

    def no_locks(_file, _how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("artifacts.live.fcntl.flock", no_locks)
    record = published(store)
    with keeping():
        store.lookup(record.key)
        (file,) = live_files(store)
        collect(store, ALL)
        assert store.lookup(record.key) == record
        now = file.stat().st_mtime
    file.write_bytes(b'{"kernel":"%s"}\n%s' % (live.kernel().encode(), record.key.encode()))
    assert keys_in_use(store, now + 6 * 86400)[0] == {record.key}
    assert keys_in_use(store, now + 8 * 86400) == (set(), [file])


def test_a_collection_does_not_wait_for_ever_for_a_stopped_run(store, monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.0)
    published(store)
    with keeping():
        store.lookup(payload(2).key())
        with live.between_takes(store.root), pytest.raises(StoreBusyError, match="Let it go on"):
            collect(store, ALL)
    assert collect(store, ALL)[1].records == 1


def test_a_run_does_not_wait_for_ever_for_a_stopped_collection(store, monkeypatch):
    monkeypatch.setattr(live, "_PATIENCE", 0.0)
    record = published(store)
    with keeping(), live.taking(store.root):
        assert store.lookup(record.key) == record
        assert store.publish(payload(2), {"a": b"a"}) == store.lookup(payload(2).key())
