"""Repair, and several records under one key: replaced, and put back by a collection."""

from pathlib import Path

import pytest
from support.results import payload

from artifacts.care.gc import Policy, collect
from artifacts.care.pins import pin
from artifacts.care.trash import Trash
from artifacts.care.verify import repair, verify
from artifacts.records import Record
from artifacts.store import Store

NOW = Policy(grace=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def two_generations(store: Store) -> Record:
    first = store.publish(payload(), {"a": b"first"})
    return store.publish(payload(), {"a": b"second"}, replaces=first)


def test_a_result_may_be_replaced_by_an_equal_one(store):
    first = store.publish(payload(), {"a": b"same"})
    second = store.publish(payload(), {"a": b"same"}, replaces=first)
    assert (second.generation, second.tree) == (1, first.tree)
    assert store.lookup(payload().key()) == second


def test_what_was_published_anew_is_not_covered_by_an_old_generation_from_the_trash(store):
    """As after a collection that was killed once the records were moved."""
    old = two_generations(store)
    Trash(store).put_record(old.key, 2)
    new = store.publish(payload(), {"a": b"third"})
    pin(store, "mine", new.key)
    collect(store, NOW)
    assert store.lookup(new.key) == new
    assert new.generation == 0
    assert list((store.root / "trash").iterdir()) == []


def test_all_generations_of_a_pinned_result_come_back_from_the_trash(store):
    last = two_generations(store)
    Trash(store).put_record(last.key, 2)
    pin(store, "mine", last.key)
    collect(store, NOW)
    assert store.lookup(last.key) == last


def test_what_was_repaired_away_stays_away_even_if_it_is_pinned(store):
    last = two_generations(store)
    pin(store, "mine", last.key)
    store.file_path(last, "a").unlink()
    repair(store, verify(store))
    collect(store, NOW)
    assert store.lookup_record(last.key) is None
    assert verify(store) == []
    assert len(list((store.root / "quarantine").iterdir())) == 2


def test_repair_takes_away_what_a_rerun_then_heals(store):
    whole, broken, damaged = (
        store.publish(payload(rank), {"a": b"%d" % rank}) for rank in range(3)
    )
    store.file_path(broken, "a").unlink()
    path = store.ledger.path(damaged.key)
    path.unlink()
    path.write_bytes(b"{}")
    problems = verify(store)
    assert {p.name for p in problems} == {broken.key, damaged.key}
    done = repair(store, problems)
    assert len(done) == 2
    assert verify(store) == []
    assert store.lookup(whole.key) == whole
    assert store.publish(broken.payload, {"a": b"1"}).generation == 0


def test_repair_spares_what_healed_meanwhile(store):
    record = store.publish(payload(), {"a": b"a"})
    store.file_path(record, "a").unlink()
    problems = verify(store)
    healed = store.publish(payload(), {"a": b"a"})
    assert "healed" in repair(store, problems)[0]
    assert store.lookup(healed.key) == healed


@pytest.mark.parametrize(
    "place",
    ["objects/notes.txt", "objects/00/notes.txt", "objects/00/" + "ab" * 32, "records/00/x.json"],
)
def test_a_file_that_is_none_of_the_stores_is_found_and_put_aside(store, place):
    record = store.publish(payload(), {"a": b"a"})
    stray = store.root / place
    stray.write_bytes(b"mine")
    (problem,) = verify(store)
    assert (problem.kind, problem.name) == ("stray", str(stray))
    assert stray.exists()
    (said,) = repair(store, [problem])
    assert str(stray) in said
    assert verify(store) == []
    assert [p.read_bytes() for p in (store.root / "quarantine").iterdir()] == [b"mine"]
    assert store.lookup(record.key) == record


def test_a_generation_that_no_lookup_comes_to_is_a_stray(store):
    last = two_generations(store)
    store.ledger.path(last.key, 0).unlink()
    assert [(p.kind, p.name) for p in verify(store)] == [
        ("stray", str(store.ledger.path(last.key, 1)))
    ]
