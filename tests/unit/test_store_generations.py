"""Several records under one key: replaced, repaired, and put back by a collection."""

from pathlib import Path

import pytest
from support.results import payload

from artifacts.gc import Policy, collect
from artifacts.pins import pin
from artifacts.records import Record
from artifacts.store import Store
from artifacts.trash import Trash
from artifacts.verify import repair, verify

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
