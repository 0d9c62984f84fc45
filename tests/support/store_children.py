"""What the store's tests run in child processes.

A spawned child imports its function by name, and only `support` is on its path: a test module is
not, unless pytest was started in a certain way.
"""

import os
import signal
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from support.results import payload

from artifacts.care.gc import Policy, collect
from artifacts.errors import StoreError
from artifacts.live import keeping
from artifacts.store import Store

# No grace and no lock: nothing but the protocol stands between a collection and a publisher.
HARSH = Policy(grace=0)
HARSH_ALL = Policy(grace=0, max_bytes=0)
CONTENTS = 8
KEYS = 12


def content(number: int) -> bytes:
    return b"%d" % (number % CONTENTS) * 200


def publish_many(root: Path, worker: int, count: int, results: Queue) -> None:
    """Publish bytes that are stored already but belong to no result: collections delete them."""
    store = Store.open(root)
    for number in range(count):
        rank = worker * 10_000 + number
        files = {name: b"%d of %d" % (rank, i) * 50 for i, name in enumerate("abcdef")}
        for data in files.values():
            store.objects.put_bytes(data)
        time.sleep(0.01)  # long enough for a collection to begin in between
        record = store.publish(payload(rank), files)
        results.put((record.key, record.tree, files))


def collect_many(root: Path, stop: Event, results: Queue) -> None:
    """Collect without a pause until ``stop`` is set; report how many objects went to the trash."""
    store, objects = Store.open(root), 0
    while not stop.is_set():
        objects += len(collect(store, HARSH)[0].objects)
    results.put(objects)


def collect_all(root: Path, ready: Event) -> None:
    """Collect everything again and again, until killed."""
    store = Store.open(root)
    collect(store, HARSH_ALL)
    ready.set()
    while True:
        collect(store, HARSH_ALL)


def read_many(root: Path, stop: Event, results: Queue) -> None:
    """Look keys up and read their files while they come and go; report what was wrong."""
    store, wrong, hits = Store.open(root), [], 0
    while not stop.is_set():
        for rank in range(CONTENTS):
            record = store.lookup(payload(rank).key())
            if record is None:
                continue
            try:
                with store.file_path(record, "a").open("rb") as file:
                    hits += 1
                    time.sleep(0.001)
                    if file.read() != content(rank):
                        wrong.append(rank)
            except FileNotFoundError:
                continue  # a clean miss
    results.put((hits, wrong))


def hold(root: Path, key: str, ready: Event) -> None:
    with keeping():
        Store.open(root).lookup(key)
        ready.set()
        time.sleep(3600)


def run_once(root: Path, worker: int, results: Queue) -> None:
    """Look up or make every result; after each, read all results again that it has got so far.

    Reports ``ready`` when it has begun, and at its end which results were missing or different.
    """
    wrong, handed = [], {}
    with keeping():
        store = Store.open(root)
        results.put("ready")
        for rank in range(CONTENTS):
            # Of its own and shared with the other runs, by content and by key.
            own = payload(1000 * (worker + 1) + rank)
            for wanted in (payload(rank), own):
                record = store.lookup(wanted.key()) or store.publish(wanted, {"a": content(rank)})
                try:
                    handed[record.key] = (store.tree_path(record) / "a", content(rank))
                    for key, (path, data) in handed.items():
                        if path.read_bytes() != data or store.lookup(key) is None:
                            wrong.append(f"{key[:8]} is not there or not as it was")
                except (OSError, StoreError) as error:
                    wrong.append(repr(error))
    results.put(wrong)


def write_all_keys(root, name, barrier, results, dies):
    """Publish every key at the same time as the others, with other bytes; killed at key `dies`.

    A killed writer is gone for the keys that follow, so the barrier is only for the first one.
    """
    store = Store.open(root)
    barrier.wait()
    for number in range(KEYS):
        if number == dies:
            link = os.link

            def dying(*arguments, link=link, **named):
                link(*arguments, **named)
                os.kill(os.getpid(), signal.SIGKILL)

            os.link = dying  # just after its record has its name, before anybody is told
        record = store.publish(payload(number), {"a": name * (number + 1)})
        results.put((number, record.tree))
