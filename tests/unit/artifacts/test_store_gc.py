import os
from pathlib import Path

import pytest
from support.results import payload, published

from artifacts.care import gc, take
from artifacts.care.gc import Policy, collect, plan
from artifacts.care.pins import keys_in_use, pin, pins, unpin
from artifacts.care.trash import Trash
from artifacts.care.verify import verify
from artifacts.errors import NameRefusedError, StoreBusyError, StoreReadOnlyError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.live import keeping
from artifacts.records import Record
from artifacts.store import Store
from artifacts.work import aside_of

DAY = 86400.0
NOW = Policy(grace=0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def made_of(store: Store, step: str, source: Record, content: bytes) -> Record:
    """A result of ``step`` made from another one, both ways of saying so included."""
    inputs = {"source": {"step": source.step, "key": source.key, "digest": source.tree}}
    made_of_it = KeyPayload(step=step, version=1, config={}, inputs={"source": source.tree})
    return store.publish(made_of_it, {"out": content}, provenance={"inputs": inputs})


def age(store: Store, record: Record, days: float) -> None:
    """Make a record look last used some days ago."""
    then = (store.root / "tmp").stat().st_mtime - days * DAY
    os.utime(store.ledger.path(record.key, record.generation), (then, then))


def orphan(store: Store, content: bytes) -> Path:
    return store.objects.path(store.objects.put_bytes(content).digest)


def test_without_limits_only_what_no_result_needs_goes(store):
    record = published(store)
    lost = orphan(store, b"lost" * 100)
    made = plan(store, NOW)
    assert (made.records, list(made.objects.values()), made.kept) == ([], [400], 1)
    assert lost.exists()
    _plan, done = collect(store, NOW)
    assert (done.records, done.objects, done.bytes) == (0, 1, 400)
    assert not lost.exists()
    assert store.lookup(record.key) == record
    assert verify(store) == []
    assert list((store.root / "trash").iterdir()) == []


def test_what_changed_within_the_grace_period_stays(store):
    lost = orphan(store, b"perhaps a publish under way")
    (store.root / "tmp" / "draft").write_bytes(b"x")
    assert plan(store, Policy()).bytes == 0
    collect(store, Policy())
    assert lost.exists()
    assert (store.root / "tmp" / "draft").exists()


def test_age_is_told_from_the_last_use(store):
    old, used, new = (published(store, rank) for rank in (1, 2, 3))
    shared = store.file_path(old, "u.bin")
    own = store.publish(payload(4), {"own": b"only here"})
    for record in (old, used, own):
        age(store, record, 40)
    store.lookup(used.key)
    doomed = plan(store, Policy(older_than=30 * DAY, grace=0)).records
    assert {item.record.key for item in doomed} == {old.key, own.key}
    assert {item.why for item in doomed} == {"age"}
    collect(store, Policy(older_than=30 * DAY, grace=0))
    assert store.lookup(old.key) is None
    assert store.lookup(used.key) == used
    assert store.lookup(new.key) == new
    assert shared.exists()  # others need it
    assert not store.file_path(own, "own").exists()
    assert verify(store) == []


def test_size_takes_the_least_recently_used_until_it_fits(store):
    records = [store.publish(payload(rank), {"a": bytes([rank]) * 1000}) for rank in range(4)]
    for rank, record in enumerate(records):
        age(store, record, 10 - rank)
    total = plan(store, NOW).kept_bytes
    made, done = collect(store, Policy(max_bytes=total - 1001, grace=0))
    assert [item.record.key for item in made.records] == [r.key for r in records[:1]]
    assert made.excess == 0
    assert made.kept_bytes <= total - 1001
    assert done.records == 1
    assert [store.lookup(r.key) is not None for r in records] == [False, True, True, True]


def test_what_cannot_be_met_is_told(store):
    record = published(store)
    pin(store, "mine", record.key)
    made = plan(store, Policy(max_bytes=10, grace=0))
    assert made.records == []
    assert made.excess == made.kept_bytes - 10


@pytest.mark.parametrize("root", ["pin", "live run", "keep step", "keep key"])
def test_a_root_keeps_itself_and_all_it_was_made_from(store, root):
    first = store.publish(payload(1, "pretrain"), {"w": b"weights"})
    second = made_of(store, "lora", first, b"adapter")
    third = made_of(store, "evaluate", second, b"score")
    for record in (first, second, third):
        age(store, record, 40)
    keep = {"keep step": "lora", "keep key": second.key[:10]}.get(root)
    policy = Policy(older_than=DAY, grace=0, keep=frozenset({keep} if keep else ()))
    if root == "pin":
        pin(store, "paper", second.key)
    if root == "live run":
        with keeping():
            store.lookup(second.key)
            collect(store, policy)
    else:
        collect(store, policy)
    found = [store.lookup_record(r.key) is not None for r in (first, second, third)]
    assert found == [True, True, False]


def test_a_run_that_is_over_keeps_nothing(store):
    record = published(store)
    with keeping():
        store.lookup(record.key)
        assert keys_in_use(store, 0)[0] == {record.key}
        (live,) = (store.root / "pins" / "live").iterdir()
        left = live.read_bytes()
    assert keys_in_use(store, 0) == (set(), [])
    live.write_bytes(left)  # as a kill leaves it: there, and not locked
    assert keys_in_use(store, 0) == (set(), [live])
    collect(store, NOW)
    assert not live.exists()


def test_a_run_on_another_machine_counts_as_live_for_a_week(store):
    record = published(store)
    with keeping():
        store.lookup(record.key)
        (live,) = (store.root / "pins" / "live").iterdir()
        left = live.read_bytes()
    live.write_bytes(left.replace(b'"kernel":"', b'"kernel":"other-'))
    changed = live.stat().st_mtime
    assert keys_in_use(store, changed + 6 * DAY)[0] == {record.key}
    assert keys_in_use(store, changed + 8 * DAY)[0] == set()


def test_pins_are_set_moved_listed_and_taken_away(store):
    first, second = published(store, 1), published(store, 2)
    pin(store, "paper", first.key)
    pin(store, "paper", second.key)
    assert pins(store) == {"paper": second.key}
    assert unpin(store, "paper") == second.key
    with pytest.raises(UnknownKeyError, match=r"'paper'.*none"):
        unpin(store, "paper")
    with pytest.raises(NameRefusedError, match=r"\.\./x"):
        pin(store, "../x", first.key)


def test_a_damaged_pin_stops_a_collection(store):
    (store.root / "pins" / "paper.json").write_text("{")
    with pytest.raises(UnknownKeyError, match=r"paper\.json is damaged"):
        collect(store, NOW)


def test_keeping_what_does_not_exist_is_refused(store):
    with pytest.raises(UnknownKeyError, match="'finetun'"):
        plan(store, Policy(keep=frozenset({"finetun"})))


def test_old_generations_go_with_their_key_and_never_leave_a_gap(store):
    first = published(store)
    second = store.publish(payload(), {"a": b"anew"}, replaces=first)
    assert not plan(store, NOW).records
    assert store.file_path(first, "u.bin").exists()
    collect(store, NOW)
    assert not store.file_path(first, "u.bin").exists()  # only the last generation counts
    assert store.lookup(second.key) == second
    age(store, second, 40)
    collect(store, Policy(older_than=DAY, grace=0))
    assert list(store.ledger.all_keys()) == []
    assert store.ledger.generations(second.key) == 0


def test_a_generation_added_while_its_key_is_removed_brings_all_back(store):
    first = published(store)
    second = store.publish(payload(), {"a": b"anew"}, replaces=first)
    assert not Trash(store).put_record(first.key, 1)  # judged before the second was there
    assert store.lookup(second.key) == second
    assert store.ledger.generations(first.key) == 2


def test_a_draft_is_kept_for_an_hour_whatever_the_grace(store, monkeypatch):
    """It may belong to a publisher at work."""
    draft = store.root / "tmp" / "draft"
    draft.write_bytes(b"x" * 500)
    changed = draft.stat().st_mtime
    for minutes, kept in ((59, True), (61, False)):
        monkeypatch.setattr(gc, "store_clock", lambda _store, m=minutes: changed + 60 * m)
        collect(store, NOW)
        assert draft.exists() == kept


def test_views_and_old_work_go_and_what_is_in_use_stays(store):
    record = published(store)
    view = store.tree_path(record)
    gone = store.root / "views" / ("0" * 64)
    gone.mkdir()
    (gone / "a").symlink_to("../../objects/00/00")
    work = store.workdir(record.key, adopt=False)
    (work / "checkpoint").write_bytes(b"w" * 700)
    old = store.workdir(payload(2).key(), adopt=False)
    (old / "checkpoint").write_bytes(b"o" * 800)
    _plan, done = collect(store, NOW)
    assert done.bytes >= len("../../objects/00/00")
    assert not gone.exists()
    assert view.exists()
    assert (work / "checkpoint").exists()


def test_work_is_kept_for_a_fortnight(store, monkeypatch):
    work = store.workdir(payload().key(), adopt=False)
    (work / "checkpoint").write_bytes(b"w" * 700)
    (aside_of(work) / "damaged").mkdir(parents=True)
    changed = work.stat().st_mtime
    monkeypatch.setattr(gc, "store_clock", lambda _store: changed + 13 * DAY)
    collect(store, Policy())
    assert work.exists()
    assert aside_of(work).exists()
    monkeypatch.setattr(gc, "store_clock", lambda _store: changed + 15 * DAY)
    assert [item.kind for item in plan(store, Policy()).leftovers] == ["work", "work"]
    collect(store, Policy())
    assert not work.parent.exists()


def test_an_object_that_is_wanted_again_comes_back_from_the_trash(store):
    record = published(store)
    Trash(store).put_object(record.files["u.bin"].digest)
    assert store.lookup(record.key) == record
    assert verify(store) == []


def test_a_collection_puts_back_what_a_killed_one_took_too_much(store):
    record, unwanted = published(store), orphan(store, b"unwanted")
    trash = Trash(store)
    trash.put_object(record.files["u.bin"].digest)
    trash.put_object(store.objects.put_bytes(b"unwanted").digest)
    pinned = store.publish(payload(9), {"p": b"p"})
    pin(store, "p", pinned.key)
    trash.put_record(pinned.key, 1)
    _plan, done = collect(store, NOW)
    assert done.restored == 2
    assert store.lookup(record.key) == record
    assert store.lookup(pinned.key) == pinned
    assert not unwanted.exists()


def test_a_publish_whose_dedupe_hit_is_collected_stores_the_object_again(store, monkeypatch):
    """The object goes, trash included, after it was found in place and before the record is."""
    from artifacts.ledger import Ledger

    present = orphan(store, b"same bytes")
    append, gone = Ledger.append, []

    def collect_first(ledger: Ledger, record: Record) -> bool:
        if not gone:
            present.unlink()
            gone.append(present)
        return append(ledger, record)

    monkeypatch.setattr(Ledger, "append", collect_first)
    record = store.publish(payload(), {"a": b"same bytes"})
    assert gone
    assert store.file_path(record, "a").read_bytes() == b"same bytes"
    assert record.generation == 0
    assert verify(store) == []


def test_two_collections_at_once_are_refused(store):
    with take.only_one(store), pytest.raises(StoreBusyError, match="another collection"):
        collect(store, NOW)


def test_a_read_only_store_is_planned_and_not_collected(store):
    orphan(store, b"lost")
    reader = Store.open(store.root, read_only=True)
    assert plan(reader, NOW).bytes == 4
    with pytest.raises(StoreReadOnlyError):
        collect(reader, NOW)
