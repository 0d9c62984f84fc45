"""Any sequence of requests, damage and crashes agrees with a dictionary; a wrong store does not."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import RULE_MARKER, run_state_machine_as_test
from support.store_model import StoreModel

import artifacts.care.gc
import artifacts.care.verify
import artifacts.live
from artifacts.disk.stamps import StampCache
from artifacts.errors import StoreError
from artifacts.ledger import Ledger
from artifacts.objects import Objects

pytestmark = pytest.mark.faults

SOUND = settings(max_examples=40, stateful_step_count=40, derandomize=True, database=None)
WRONG = settings(
    SOUND,
    max_examples=1000,
    phases=[Phase.generate],
    print_blob=False,
    report_multiple_bugs=False,  # else it goes on looking when it has found one
)


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


def notes_nothing(self, keys):
    pass


def finds_nothing(store, key):
    return []


@pytest.mark.figures(faults=1)
@pytest.mark.parametrize(
    ("place", "name", "wrong", "rules"),
    [
        (Objects, "is_intact", trusts_that_it_is_there, "damage_an_object"),
        (StampCache, "recall", trusts_an_old_stamp, "damage_an_object lookup"),
        (
            Ledger,
            "_mark_damaged",
            frees_the_name_of_a_damaged_record,
            "damage_a_record lookup verify",
        ),
        (artifacts.care.gc, "pins", sees_no_pins, "pin collect"),
        (artifacts.live._LivePin, "add", notes_nothing, "a_run lookup collect"),
        (artifacts.care.verify, "_bad_record", finds_nothing, "damage_a_record verify"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_store_with_one_thing_wrong_is_found_out(monkeypatch, place, name, wrong, rules):
    """By a model of few rules, within a few sequences; by all rules, within a hundred or so."""
    model = with_only(rules.split())
    run_state_machine_as_test(model, settings=settings(SOUND, max_examples=10))
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises((AssertionError, StoreError, OSError)):
        run_state_machine_as_test(model, settings=WRONG)


def with_only(rules: list[str]) -> type[StoreModel]:
    kept = {"publish", *rules}
    assert all(map(is_rule, kept))
    others = {name: None for name in vars(StoreModel) if is_rule(name) and name not in kept}
    return type("SmallModel", (StoreModel,), others)


def is_rule(name: str) -> bool:
    return hasattr(getattr(StoreModel, name), RULE_MARKER)
