"""Collections beside publishers and readers, killed in the middle, and on a full disk."""

import multiprocessing as mp
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.disk import small_disk
from support.patience import PATIENCE
from support.results import payload
from support.store_children import (
    CONTENTS,
    HARSH,
    HARSH_ALL,
    collect_all,
    collect_many,
    content,
    hold,
    publish_many,
    read_many,
    run_once,
)

from artifacts.care.gc import collect
from artifacts.care.pins import keys_in_use, pin
from artifacts.care.verify import verify
from artifacts.errors import StoreFullError
from artifacts.room import store_free_bytes
from artifacts.store import Store

pytestmark = pytest.mark.faults

SPAWN = mp.get_context("spawn")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Store.open(tmp_path / "store").root


def start(target, *arguments) -> mp.process.BaseProcess:
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


def finish(*processes: mp.process.BaseProcess) -> None:
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0


@pytest.mark.figures(faults=60)
def test_nothing_dangles_when_collections_race_dedupe_hits(root):
    count, stop, results, collected = 30, SPAWN.Event(), SPAWN.Queue(), SPAWN.Queue()
    collector = start(collect_many, root, stop, collected)
    publishers = [start(publish_many, root, worker, count, results) for worker in range(2)]
    acknowledged = [results.get(timeout=PATIENCE) for _ in range(2 * count)]
    finish(*publishers)
    stop.set()
    went = collected.get(timeout=PATIENCE)
    finish(collector)
    assert went > 0, "the collections took nothing: this test tested nothing"
    store = Store.open(root)
    for key, tree, files in acknowledged:
        record = store.lookup(key)
        assert record is not None
        assert record.tree == tree
        assert {name: store.file_path(record, name).read_bytes() for name in files} == files
    assert verify(store) == []


@pytest.mark.figures(faults=25)
def test_a_reader_finishes_or_gets_a_clean_miss(root):
    stop, results = SPAWN.Event(), SPAWN.Queue()
    reader = start(read_many, root, stop, results)
    store = Store.open(root)
    for _round in range(25):
        for rank in range(CONTENTS):
            store.publish(payload(rank), {"a": content(rank)})
        assert collect(store, HARSH_ALL)[1].records > 0
    stop.set()
    hits, wrong = results.get(timeout=PATIENCE)
    finish(reader)
    assert wrong == []
    assert hits > 0
    assert verify(store) == []


@pytest.mark.figures(kills=12)
def test_a_collection_killed_anywhere_leaves_a_sound_store(root):
    """Pinned results stay whole; the others are there whole or gone; the next one cleans up."""
    store, draw = Store.open(root), random.Random(0)
    pinned = store.publish(payload(1000), {"a": content(1), "own": b"pinned"})
    pin(store, "mine", pinned.key)
    inside = 0
    for _round in range(12):
        ready = SPAWN.Event()
        process = start(collect_all, root, ready)
        assert ready.wait(PATIENCE)
        for rank in range(60):
            store.publish(payload(rank), {"a": content(rank), "own": b"%d" % rank})
        time.sleep(draw.uniform(0, 0.03))
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
        inside += bool(list((root / "trash").iterdir()))
        assert store.lookup(pinned.key) == pinned
        assert verify(store) == []
    collect(store, HARSH)
    assert list((root / "trash").iterdir()) == []
    assert verify(store) == []
    assert store.lookup(pinned.key) == pinned
    assert inside > 0, "no kill met a collection at work: this test tested nothing"


@pytest.mark.figures(kills=1)
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_what_a_live_run_reads_stays_until_the_run_is_killed(root, stopped):
    store, ready = Store.open(root), SPAWN.Event()
    record = store.publish(payload(), {"a": b"input"})
    process = start(hold, root, record.key, ready)
    try:
        assert ready.wait(PATIENCE)
        if stopped:
            os.kill(process.pid, signal.SIGSTOP)
        collect(store, HARSH_ALL)
        assert store.lookup(record.key) == record
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE)
    assert keys_in_use(store, 0)[0] == set()
    collect(store, HARSH_ALL)
    assert store.lookup(record.key) is None


@pytest.mark.figures(kills=3, faults=6)
def test_no_collection_takes_anything_from_a_run_that_is_under_way(root):
    """Six runs, three of them killed, beside collections of everything without a pause."""
    store, took = Store.open(root), 0
    for number in range(3):
        runs = []
        for worker in (2 * number, 2 * number + 1):
            results = SPAWN.Queue()
            runs.append((start(run_once, root, worker, results), results))
        for process, results in runs:
            while results.empty() and process.is_alive():
                took += collect(store, HARSH_ALL)[1].records
            assert results.get(timeout=PATIENCE) == "ready"
        (whole, told), (doomed, _results) = runs
        while told.empty() and whole.is_alive():
            took += collect(store, HARSH_ALL)[1].records
        assert told.get(timeout=PATIENCE) == []
        finish(whole)
        os.kill(doomed.pid, signal.SIGKILL)
        doomed.join(PATIENCE)
    collect(store, HARSH_ALL)
    assert list(store.records()) == []  # what killed and finished runs had marked is free again
    assert list((root / "pins" / "live").iterdir()) == []
    assert took > 0, "the collections took nothing: this test tested nothing"
    assert verify(store) == []


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 3) as disk:
        yield disk


@pytest.mark.figures(faults=3)
def test_a_full_disk_is_collected_and_then_takes_new_results(full_disk):
    store = Store.open(full_disk / "store")
    old = store.publish(payload(1), {"a": b"o" * 500_000})
    kept = store.publish(payload(2), {"a": b"k" * 1000})
    pin(store, "kept", kept.key)
    left = store.root / "tmp" / "left"
    with pytest.raises(OSError, match="No space"):
        left.write_bytes(b"x" * 5_000_000)
    left.unlink()
    filler = full_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 5_000_000)
    with pytest.raises(StoreFullError):
        store.publish(payload(3), {"a": b"n" * 100_000})
    assert store_free_bytes(store.root) == 0
    done = collect(store, HARSH_ALL)[1]
    assert done.records == 1
    assert store_free_bytes(store.root) > 400_000
    assert store.lookup(old.key) is None
    assert store.lookup(kept.key) == kept
    new = store.publish(payload(3), {"a": b"n" * 100_000})
    assert store.lookup(new.key) == new
    assert verify(store) == []
