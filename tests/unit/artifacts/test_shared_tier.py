"""What stores of several machines share, beside a tier in memory whose clock is set by hand."""

import logging
import threading

import pytest
from support.memory_tier import Memory, sharing
from support.results import payload, published

from artifacts.care.pins import pin
from artifacts.errors import RemoteError, StoreFormatError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.records import Record
from artifacts.remote import lease
from artifacts.remote.backends import open_backend
from artifacts.remote.bucket import PART, Bucket, record_name
from artifacts.remote.collect import RemotePolicy, collect_remote, plan_remote
from artifacts.remote.guarded import GuardedBackend
from artifacts.remote.probe import Capabilities, ServerClock, probe
from artifacts.remote.sync import pull, push
from artifacts.store import Store

DAY = 86400.0
KEY = payload().key()


@pytest.fixture
def memory() -> Memory:
    return Memory()


def made_of(store: Store, source: Record, rank: int = 1) -> Record:
    inputs = {"source": {"step": source.step, "key": source.key, "digest": source.tree}}
    made = KeyPayload(step="lora", version=1, config={"r": rank}, inputs={"source": source.tree})
    return store.publish(made, {"out": b"%d" % rank}, provenance={"inputs": inputs})


def bucket_at(memory: Memory) -> Bucket:
    """As another process sees it; its clock stands still but for the server's own."""
    return Bucket(memory, Capabilities(True, True, True, ServerClock(memory.now, 0.0, lambda: 0.0)))


def test_a_result_of_one_machine_is_a_hit_on_another(tmp_path, memory):
    one, other = sharing(tmp_path / "a", memory), sharing(tmp_path / "b", memory)
    record = published(one)
    assert other.lookup_here(KEY) is None
    assert other.record_elsewhere(KEY) == record
    assert other.lookup_here(KEY) is None
    assert other.lookup(KEY) == record
    asked = memory.asked
    assert other.lookup(KEY) == record
    assert memory.asked == asked  # what is here is not asked for again
    assert (other.tree_path(record) / "u.bin").read_bytes() == b"u" * 1000


@pytest.mark.parametrize("conditional", [True, False])
def test_the_first_writer_wins_across_machines(tmp_path, memory, conditional):
    memory.conditional = conditional
    assert probe(memory).conditional is conditional
    one = sharing(tmp_path / "a", memory).publish(payload(), {"out": b"first"})
    other = sharing(tmp_path / "b", memory)
    assert other.publish(payload(), {"out": b"second"}) == one
    assert other.lookup_here(KEY) == one


def test_whoever_comes_first_while_another_uploads_wins(tmp_path, memory, monkeypatch):
    """The loser's own record gives way to a next generation, with the winner's digests."""
    one, other = sharing(tmp_path / "a", memory), sharing(tmp_path / "b", memory)
    send, won = Bucket.send, []

    def slow(self: Bucket, record: Record, objects: object) -> None:
        if not won:
            won.append(None)
            won[0] = other.publish(payload(), {"out": b"faster"})
        send(self, record, objects)

    monkeypatch.setattr(Bucket, "send", slow)
    counts = one.publish(payload(), {"out": b"slower"})
    assert counts.tree == won[0].tree
    assert counts.generation == 1
    assert one.lookup_here(KEY) == counts
    assert next(one.ledger.all_generations(KEY)).tree != counts.tree


def test_of_many_that_publish_at_once_all_get_the_same(tmp_path, memory):
    barrier, trees = threading.Barrier(4), []

    def run(number: int) -> None:
        store = sharing(tmp_path / str(number), memory)
        barrier.wait()
        trees.append(store.publish(payload(), {"out": b"%d" % number}).tree)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trees) == 4
    assert len(set(trees)) == 1


def test_a_rebuilt_result_is_the_next_generation_for_all(tmp_path, memory):
    one, other = sharing(tmp_path / "a", memory), sharing(tmp_path / "b", memory)
    old = other.lookup(published(one).key)
    new = one.publish(payload(), {"out": b"anew"}, replaces=one.lookup_here(KEY))
    assert (new.generation, record_name(KEY, 1) in memory.files) == (1, True)
    assert sharing(tmp_path / "c", memory).lookup(KEY).tree == new.tree
    # A machine that replaces the same old record later finds that this was done.
    assert other.publish(payload(), {"out": b"later"}, replaces=old).tree == new.tree


def test_an_object_that_was_lost_makes_a_miss_and_is_put_again(tmp_path, memory, caplog):
    record = published(sharing(tmp_path / "a", memory))
    for name in [name for name in memory.files if name.startswith("objects/")]:
        memory.delete(name)
    other = sharing(tmp_path / "b", memory)
    with caplog.at_level(logging.WARNING):
        assert other.lookup(KEY) is None
    assert "is missing or has other bytes" in caplog.text
    again = published(other)
    assert again.tree == record.tree
    assert sharing(tmp_path / "c", memory).lookup(KEY).tree == record.tree


def test_a_record_that_is_none_makes_a_miss_and_the_next_generation_counts(tmp_path, memory):
    memory.put(record_name(KEY, 0), b"{}")
    store = sharing(tmp_path / "a", memory)
    assert store.lookup(KEY) is None
    record = published(store)
    assert sharing(tmp_path / "b", memory).lookup(KEY).tree == record.tree


def test_a_tier_of_another_version_is_refused(tmp_path, memory):
    memory.put("store.json", b'{"format": 2}')
    with pytest.raises(StoreFormatError, match="Upgrade paraknow"):
        sharing(tmp_path / "a", memory).lookup(KEY)


def test_no_more_than_a_part_is_in_memory(tmp_path, memory):
    data = bytes(2 * PART + 5)
    record = sharing(tmp_path / "a", memory).publish(payload(), {"large": data})
    other = sharing(tmp_path / "b", memory)
    assert other.file_path(other.lookup(record.key), "large").stat().st_size == len(data)
    assert memory.largest == PART


# -- what is down


def test_a_tier_that_fails_is_left_alone_for_a_while_and_then_used_again(memory, caplog):
    now = [0.0]
    guarded = GuardedBackend(memory, clock=lambda: now[0])
    memory.down = True
    with caplog.at_level(logging.WARNING):
        for _lookup in range(1000):
            with pytest.raises(RemoteError, match="nobody answers"):
                guarded.get("a", 0, 1)
    assert (memory.asked, len(caplog.records)) == (1, 1)
    now[0] = 31.0
    with pytest.raises(RemoteError):
        guarded.head("a")
    now[0] = 62.0  # the pause has doubled
    with pytest.raises(RemoteError):
        list(guarded.list("a"))
    assert (memory.asked, len(caplog.records)) == (2, 1)
    memory.down, now[0] = False, 100.0
    guarded.put("a", b"x")
    assert guarded.get("a", 0, 1).data == b"x"
    assert "answers again" in caplog.text
    assert [entry.name for entry in guarded.list("")] == ["a"]
    guarded.delete("a")
    assert guarded.put_if_absent("a", b"y")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "with one of the schemes"),
        ("bucket", "give a URL such as s3://bucket/folder"),
        ("s3://key:secret@bucket", "credentials come from the environment"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_before_a_store_is_made(tmp_path, url, said):
    with pytest.raises(RemoteError, match=said) as caught:
        Store.open(tmp_path / "a", remote=url)
    assert "secret" not in str(caught.value)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("seconds", ["soon", "0", "nan"])
def test_a_timeout_that_is_none_is_refused(monkeypatch, seconds):
    monkeypatch.setenv("PARAKNOW_REMOTE_TIMEOUT", seconds)
    with pytest.raises(RemoteError, match="PARAKNOW_REMOTE_TIMEOUT"):
        open_backend("s3://bucket/x")


def test_a_folder_is_a_tier_too(tmp_path):
    url = (tmp_path / "shared").as_uri()
    found = probe(open_backend(url))
    assert (found.conditional, found.ranges, found.lists) == (True, True, True)
    record = published(Store.open(tmp_path / "a", remote=url))
    assert Store.open(tmp_path / "b", remote=url).lookup(KEY) == record


# -- leases


def test_one_machine_waits_for_another_and_gets_its_result(tmp_path, memory, monkeypatch):
    monkeypatch.setattr(lease, "_POLL_SECONDS", 0.01)
    one, other = sharing(tmp_path / "a", memory), sharing(tmp_path / "b", memory)
    waits: list[float] = []

    def on_wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            published(one)

    with one.lease(KEY) as held:
        assert held
        with other.lease(KEY, on_wait=on_wait):
            assert other.lookup(KEY) is not None
    assert len(waits) == 2
    assert [name for name in memory.files if name.startswith("leases/")] == []


def test_a_lease_of_a_dead_machine_runs_out_by_the_servers_clock(memory):
    memory.now = 5.0  # a server whose clock is off by decades
    first = lease.take(bucket_at(memory), KEY)
    assert first is not None
    memory.now += lease.SECONDS - 1
    assert lease.take(bucket_at(memory), KEY) is None
    memory.put(first, b"renewed")
    memory.now += lease.SECONDS - 1
    assert lease.take(bucket_at(memory), KEY) is None
    memory.now += 2
    second = lease.take(bucket_at(memory), KEY)
    assert second is not None
    assert second > first
    lease.release(bucket_at(memory), first)  # the dead one wakes up: the other still holds its own
    assert lease.take(bucket_at(memory), KEY) is None
    lease.release(bucket_at(memory), second)
    assert lease.take(bucket_at(memory), KEY) == first


def test_a_tier_that_is_down_keeps_nobody_from_computing(tmp_path, memory):
    memory.down = True
    store = sharing(tmp_path / "a", memory)
    with store.lease(KEY) as held:
        assert held
        record = published(store)
    assert store.lookup(KEY) == record


# -- push, pull, collect


def test_push_and_pull_carry_what_a_result_was_made_from(tmp_path, memory):
    here = Store.open(tmp_path / "a")
    source = published(here)
    result = made_of(here, source)
    published(here, rank=5)
    moved = list(push(here, Bucket(memory), [result.key]))
    assert [(m.record.key, m.how) for m in moved] == [(source.key, "new"), (result.key, "new")]
    other = Store.open(tmp_path / "b")
    moved = list(pull(other, Bucket(memory), [result.key]))
    assert [(m.record.key, m.how) for m in moved] == [(source.key, "new"), (result.key, "new")]
    assert list(other.records()) == sorted([source, result], key=lambda r: r.key)
    assert {m.how for m in pull(other, Bucket(memory), [result.key])} == {"present"}
    with pytest.raises(UnknownKeyError, match="has no result"):
        list(pull(other, Bucket(memory), [payload(5).key()]))


def test_a_result_that_another_machine_put_first_stays_on_both_sides(tmp_path, memory):
    theirs = sharing(tmp_path / "a", memory).publish(payload(), {"out": b"theirs"})
    here = Store.open(tmp_path / "b")
    ours = here.publish(payload(), {"out": b"ours"})
    assert [(m.record, m.how) for m in push(here, Bucket(memory), [KEY])] == [(theirs, "kept")]
    assert [(m.record, m.how) for m in pull(here, Bucket(memory), [KEY])] == [(ours, "kept")]


def test_a_collection_keeps_roots_and_what_is_young(tmp_path, memory):
    store = sharing(tmp_path / "a", memory)
    source = published(store)
    result = made_of(store, source)
    other = store.publish(payload(9), {"out": b"nobody needs it"})
    memory.put("objects/ab/" + "ab" * 32, b"orphan")
    memory.put("objects/readme", b"of somebody else")
    memory.put("leases/" + KEY + "/00000000", b"")
    pin(store, "mine", result.key)

    def planned(**policy: object) -> tuple[set[str], int, int]:
        made = plan_remote(store, bucket_at(memory), RemotePolicy(**policy))
        return {r.key for r, _number in made.records}, len(made.objects), len(made.leftovers)

    assert planned(older_than=0.0) == (set(), 0, 0)  # all of it is young
    memory.now += 2 * DAY
    assert planned() == (set(), 1, 1)
    assert planned(older_than=3 * DAY) == (set(), 1, 1)
    assert planned(older_than=DAY) == ({other.key}, 3, 1)
    assert planned(older_than=DAY, keep=frozenset({other.key[:8]})) == (set(), 1, 1)
    with pytest.raises(UnknownKeyError, match="nothing to keep"):
        planned(keep=frozenset({"nothing"}))

    collect_remote(store, bucket_at(memory), RemotePolicy(older_than=DAY))
    fresh = sharing(tmp_path / "b", memory)
    assert fresh.lookup(other.key) is None
    assert fresh.lookup(result.key) == result
    assert fresh.lookup(source.key) == source
    assert "objects/readme" in memory.files
    assert not any(name.startswith("leases/") for name in memory.files)


def test_a_collection_does_not_take_what_a_record_is_about_to_need(tmp_path, memory):
    """Objects of a result whose record went are old; whoever publishes over them makes them new."""
    data = {"out": bytes(100_000)}
    record = sharing(tmp_path / "a", memory).publish(payload(), data)
    memory.delete(record_name(KEY, 0))
    memory.now += 2 * DAY
    other = sharing(tmp_path / "b", memory)
    planned = plan_remote(other, bucket_at(memory), RemotePolicy())
    assert planned.objects.keys() == record.objects().keys()
    other.publish(payload(7), data)
    assert collect_remote(other, bucket_at(memory), RemotePolicy()).objects == {}
    # Also if it read the records before that one came.
    late = bucket_at(memory)
    assert not any(late.remove_object(digest, older_than=DAY) for digest in planned.objects)
    assert sharing(tmp_path / "c", memory).lookup(payload(7).key()) is not None
