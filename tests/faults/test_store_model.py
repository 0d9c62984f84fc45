"""Any sequence of requests, damage and crashes agrees with a dictionary; a wrong store does not."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.store_model import StoreModel

import artifacts.gc
import artifacts.verify
from artifacts.errors import StoreError
from artifacts.ledger import Ledger
from artifacts.objects import Objects
from artifacts.stamps import StampCache

pytestmark = pytest.mark.faults

# The same sequences each time, in every profile: each fault of the list is found in these.
SOUND = settings(max_examples=40, stateful_step_count=40, derandomize=True, database=None)
WRONG = settings(SOUND, max_examples=200, phases=[Phase.generate], print_blob=False)


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Thousands of damages, each of them logged, would take longer than the store itself."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_any_sequence_agrees_with_a_dictionary(figures):
    before = StoreModel.steps
    run_state_machine_as_test(StoreModel, settings=SOUND)
    steps = StoreModel.steps - before
    assert steps > 1000
    figures(faults=steps)


def trusts_that_it_is_there(self, digest, size, *, again=False):
    return self.path(digest).exists()


def trusts_an_old_stamp(self, name, stamp):
    known = self._seen.get(name) or self._load(name)
    return known and known[1]


def frees_the_name_of_a_damaged_record(self, path, error):
    if not self._read_only:
        path.unlink()


def sees_no_pins(store):
    return {}


def finds_nothing(store, key):
    return []


@pytest.mark.figures(faults=1)
@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [
        (Objects, "is_intact", trusts_that_it_is_there),
        (StampCache, "recall", trusts_an_old_stamp),
        (Ledger, "_mark_damaged", frees_the_name_of_a_damaged_record),
        (artifacts.gc, "pins", sees_no_pins),
        (artifacts.verify, "_bad_record", finds_nothing),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_store_with_one_thing_wrong_is_found_out(monkeypatch, place, name, wrong):
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises((AssertionError, StoreError, OSError)):
        run_state_machine_as_test(StoreModel, settings=WRONG)
