"""Writers of one key with different bytes, some of them killed; and damage to every stored byte."""

import multiprocessing as mp
from collections.abc import Callable
from pathlib import Path

import pytest
from support.patience import PATIENCE
from support.results import in_quarantine, payload
from support.store_children import KEYS, write_all_keys

from artifacts.care.verify import verify
from artifacts.store import Store

pytestmark = pytest.mark.faults

WRITERS = 3


@pytest.mark.parametrize("dies", [None, KEYS // 2], ids=["all live", "one is killed"])
def test_writers_of_one_key_agree_on_one_record(tmp_path, dies, figures):
    root = Store.open(tmp_path / "store").root
    context = mp.get_context("spawn")
    # A queue for each: a killed process may leave a shared one locked.
    barrier, results = context.Barrier(WRITERS), [context.SimpleQueue() for _ in range(WRITERS)]
    writers = [
        context.Process(
            target=write_all_keys,
            args=(root, bytes([65 + i]), barrier, results[i], dies if i == 0 else None),
        )
        for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE)
    assert [w.exitcode for w in writers[1:]] == [0] * (WRITERS - 1)
    store, counted = Store.open(root), 0
    for queue in results:
        while not queue.empty():
            number, tree = queue.get()
            assert store.lookup(payload(number).key()).tree == tree
            counted += 1
    assert counted >= KEYS * (WRITERS - 1)
    assert verify(store) == []
    assert in_quarantine(store) == []
    figures(kills=int(dies is not None), faults=KEYS)


def flips(path: Path) -> list[Callable[[bytes], bytes]]:
    """Damages to a file: one bit of each byte, every eighth length, and nothing at all left."""

    def flip(place: int) -> Callable[[bytes], bytes]:
        bit = 1 << (place % 8)
        return lambda data: data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

    def cut(length: int) -> Callable[[bytes], bytes]:
        return lambda data: data[:length]

    size = path.stat().st_size
    return [flip(i) for i in range(size)] + [cut(i) for i in range(0, size, 8)]


@pytest.mark.parametrize("victim", ["file", "tree", "record"])
def test_no_flipped_bit_and_no_truncation_is_ever_returned(memory, victim, figures):
    store = Store.open(memory / "store")
    record = store.publish(payload(), {"a": b"the bytes of a result"})
    path = {
        "file": store.file_path(record, "a"),
        "tree": store.objects.path(record.tree),
        "record": store.ledger.path(record.key),
    }[victim]
    good = path.read_bytes()
    damages = flips(path)
    assert len(damages) >= 20
    for number, damage in enumerate(damages):
        path.chmod(0o644)
        path.write_bytes(damage(good))
        reader = Store.open(store.root)
        assert reader.lookup(record.key) is None, f"damage {number} was returned"
        assert in_quarantine(store) == [damage(good)]
        for moved in (store.root / "quarantine").iterdir():
            moved.unlink()
        if victim == "record":
            path.unlink()  # the tombstone, for the next round to start afresh
            path.write_bytes(good)
        else:
            healed = reader.publish(payload(), {"a": b"the bytes of a result"})
            assert healed.tree == record.tree
        assert Store.open(store.root).lookup(record.key) == record
    assert verify(store) == []
    figures(faults=len(damages))
