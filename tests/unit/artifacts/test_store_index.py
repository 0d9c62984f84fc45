"""The index of a store's records: whatever becomes of it, listings are what the records say."""

import contextlib
import itertools
import os
import sqlite3
from pathlib import Path

import pytest
from support.results import payload, published

from artifacts.care.gc import Policy, collect, plan
from artifacts.care.pins import pin
from artifacts.care.trash import Trash, still_needed
from artifacts.disk import stamps
from artifacts.keys import KeyPayload
from artifacts.ledger import Ledger
from artifacts.queries import index
from artifacts.queries.index import index_path, read_index, summaries, write_index
from artifacts.queries.lineage import Lineage
from artifacts.queries.summary import Summary
from artifacts.queries.usage import usage
from artifacts.records import TOMBSTONE, Record
from artifacts.store import Store

NOW = Policy(grace=0)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An index of any size, in a cache folder of the test's own, over files that lay still."""
    monkeypatch.setattr(index, "WORTH_WRITING", 0)
    monkeypatch.setattr(stamps, "SETTLED_NS", -1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store.open(tmp_path / "store")
    model = made.publish(payload(1, "model"), {"w": b"w"}, facts={"model_type": "llama", "n": 1})
    said = {"source": {"step": "model", "key": model.key, "digest": model.tree, "location": "x"}}
    of_model = KeyPayload(step="tune", version=1, config={}, inputs={"source": model.tree})
    made.publish(
        of_model,
        {"a": b"adapter", "b": b"adapter"},
        provenance={"inputs": said, "finished": "2026-01-02T03:04:05+00:00", "seconds": 2.5},
    )
    for rank in range(2, 5):
        published(made, rank)
    return made


def truth(store: Store) -> list[Summary]:
    """What reading every record itself gives."""
    return [Summary.of(r, store.ledger.last_used(r) or 0.0) for r in store.records()]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys whose records are read."""
    keys: list[str] = []
    current = Ledger.current

    def counting(ledger: Ledger, key: str):
        keys.append(key)
        return current(ledger, key)

    monkeypatch.setattr(Ledger, "current", counting)
    return keys


def rows(store: Store, statement: str) -> None:
    """Change the index behind its back."""
    with contextlib.closing(sqlite3.connect(index_path(store))) as opened:
        opened.execute(statement)
        opened.commit()


def test_a_second_listing_reads_no_record_and_says_the_same(store, read):
    first = list(summaries(store))
    assert len(read) == 5
    read.clear()
    assert list(summaries(store)) == first
    assert read == []
    assert first == truth(store)


def test_a_summary_comes_back_as_it_was(store):
    for summary in truth(store):
        assert Summary.decode(summary.encode(), summary.used) == summary
    # What a summary holds is what INDEX_FORMAT stands for: with other fields it must be raised.
    assert (index.INDEX_FORMAT, " ".join(Summary._fields)) == (
        1,
        "key generation step tree size sizes inputs named_inputs finished seconds facts used",
    )


def damage(name: str, store: Store) -> None:
    path = index_path(store)
    match name:
        case "deleted":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:5000])
        case "overwritten":
            path.write_bytes(b"\xff" * len(path.read_bytes()))
        case "a folder":
            path.unlink()
            path.mkdir()
        case "another version":
            rows(store, "PRAGMA user_version = 99")
        case "another table":
            rows(store, "DROP TABLE records")
        case "no rows":
            rows(store, "DELETE FROM records")
        case "other sums":
            rows(store, "UPDATE records SET summary = replace(summary, '\"', '')")
        case "other types":
            rows(store, "UPDATE records SET summary = x'00', checked = x'00'")
        case "rows swapped":
            rows(store, "UPDATE records SET summary = (SELECT max(summary) FROM records)")
        case "another stamp":
            rows(store, "UPDATE records SET stamp = '1 2 3 4'")
        case "records that are none":
            rows(store, "UPDATE records SET name = replace(name, '0', '1')")


@pytest.mark.parametrize(
    "name",
    [
        *("deleted", "emptied", "cut", "overwritten", "a folder", "another version"),
        *("another table", "no rows", "other sums", "other types", "rows swapped"),
        *("another stamp", "records that are none"),
    ],
)
def test_a_damaged_index_is_noticed_and_made_anew(store, name, read):
    list(summaries(store))
    damage(name, store)
    assert list(summaries(store)) == truth(store)
    if name != "a folder":  # where one is, listings go on without an index
        read.clear()
        list(summaries(store))
        assert read == []


def test_every_change_of_a_store_is_seen_at_once(store):
    """Also within one tick of its clock: no folder's time decides what is listed."""
    list(summaries(store))
    times = {p: p.stat() for p in (store.root / "records").iterdir()}

    def folders_as_before() -> None:
        for path, status in times.items():
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    new = published(store, 9)
    folders_as_before()
    assert new.key in {s.key for s in summaries(store)}
    store.publish(new.payload, {"u.bin": b"better"}, replaces=new)
    folders_as_before()
    (listed,) = [s for s in summaries(store) if s.key == new.key]
    assert listed.generation == 1
    Trash(store).put_record(new.key, 2)
    folders_as_before()
    assert new.key not in {s.key for s in summaries(store)}
    assert list(summaries(store)) == truth(store)


@pytest.mark.parametrize("how", ["same size and mtime", "replaced", "tombstone", "link"])
def test_a_record_that_is_another_file_is_read_again(store, how):
    victim, *_ = list(summaries(store))
    path = store.ledger.path(victim.key)
    before, data = path.stat(), path.read_bytes()
    spoilt = TOMBSTONE if how == "tombstone" else data.replace(b'"step":"', b'"stop":"', 1)
    if how == "same size and mtime":
        path.chmod(0o644)
        path.write_bytes(spoilt)
    else:
        path.unlink()
    if how == "link":
        path.symlink_to(index_path(store))
    elif how != "same size and mtime":
        path.write_bytes(spoilt)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns), follow_symlinks=False)
    assert victim.key not in {s.key for s in summaries(store)}
    assert list(summaries(store)) == truth(store)


def test_a_record_that_may_change_within_a_tick_is_not_remembered(store, read, monkeypatch):
    monkeypatch.setattr(stamps, "SETTLED_NS", 10**18)
    list(summaries(store))
    assert read_index(index_path(store)) == []
    read.clear()
    list(summaries(store))
    assert len(read) == 5


def test_a_few_new_records_are_read_and_not_written(store, monkeypatch):
    monkeypatch.setattr(index, "WORTH_WRITING", 5)
    list(summaries(store))
    assert not index_path(store).exists()
    published(store, 9)
    list(summaries(store))
    assert len(read_index(index_path(store))) == 6


def test_two_writers_leave_one_whole_index(store):
    found = list(summaries(store))
    path = index_path(store)
    one, other = read_index(path), read_index(path)[:2]
    opened = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    write_index(path, one)
    write_index(path, other)  # what came later stays
    assert len(opened.execute("SELECT * FROM records").fetchall()) == 5, "a reader keeps its own"
    opened.close()
    assert read_index(path) == other
    assert list(summaries(store)) == found
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_writer_that_is_stopped_leaves_the_index_as_it_was(store, monkeypatch):
    list(summaries(store))
    path = index_path(store)
    before = path.read_bytes()

    def stopped(*_names: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stopped)
        patched.setattr(Path, "unlink", lambda *_a, **_k: None)  # as a kill: nothing is tidied up
        with pytest.raises(KeyboardInterrupt):
            write_index(path, [])
    assert path.read_bytes() == before
    (draft,) = (p for p in path.parent.iterdir() if p != path)
    os.utime(draft, (0, 0))
    write_index(path, [])
    assert list(path.parent.iterdir()) == [path]


def test_without_a_place_for_it_everything_works(store, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert list(summaries(store)) == list(summaries(store)) == truth(store)


def test_a_read_only_store_has_an_index_too(store, read):
    opened = Store.open(store.root, read_only=True)
    before = sorted(p for p in store.root.rglob("*"))
    list(summaries(opened))
    read.clear()
    found = list(summaries(opened))
    assert read == []
    assert found == truth(store)
    assert sorted(store.root.rglob("*")) == before


def falsify(store: Store, key: str, made: Record) -> None:
    """Let the index say of one record, with a check digest that fits, what another one says."""
    lied = {row.name: row for row in read_index(index_path(store))}
    own = lied[f"{key}.json"]
    said = Summary.of(made)._replace(key=key, generation=0)
    lied[own.name] = index.IndexRow.of(own.name, own.stamp, said.encode())
    write_index(index_path(store), lied.values())


def test_a_collection_deletes_nothing_that_only_the_index_calls_unneeded(store):
    """A falsified index is the worst there is: each object is needed all the same."""
    records = list(store.records())
    list(summaries(store))
    for record in records:
        falsify(store, record.key, records[0])
    assert plan(store, NOW).objects, "the index lies"
    collect(store, NOW)
    for record in records:
        assert store.lookup(record.key) == record


def test_a_collection_reads_each_result_again_before_it_goes(store):
    model = next(r for r in store.records() if r.step == "model")
    tuned = next(r for r in store.records() if r.step == "tune")
    os.utime(store.ledger.path(tuned.key), (1, 1))
    list(summaries(store))
    falsify(store, tuned.key, model)
    made, _done = collect(store, Policy(older_than=3600.0, grace=0))
    assert tuned.key in {item.record.key for item in made.records}
    assert store.lookup(tuned.key) == tuned


def test_what_is_needed_is_told_by_the_records_alone(store):
    records = list(store.records())
    objects = {d for record in records for d in record.objects()}
    stray = store.objects.put_bytes(b"nobody's").digest
    assert still_needed(store, {*objects, stray}) == objects
    model, tuned = (next(r for r in records if r.step == s) for s in ("model", "tune"))
    Trash(store).put_record(model.key, 1)
    # The tuned result names the model's output as its input; it does not need it.
    assert still_needed(store, {model.tree, tuned.tree}) == {tuned.tree}


def test_pins_keep_what_they_kept(store):
    tuned = next(r for r in store.records() if r.step == "tune")
    list(summaries(store))
    pin(store, "mine", tuned.key)
    collect(store, Policy(older_than=0.0, grace=-10.0))
    assert {r.step for r in store.records()} == {"model", "tune"}


def test_models_are_the_same_by_summaries_and_by_records(store):
    whole, short = Lineage.of(store), Lineage(summaries(store))
    for key, record in whole.records.items():
        above = [r.key for r in whole.depends_on(record, "model")]
        assert [r.key for r in short.depends_on(short.records[key], "model")] == above
        assert set(above) == {k for k in whole.upstream([key]) if whole.records[k].step == "model"}
    assert [g.results for g in usage(store, model_step="model").by_model] in ([2, 3], [3, 2])


def test_models_of_a_web_of_results_are_all_those_above():
    """Against a walk to the top from each result, with many ways to one and the same."""

    def result(name: str, step: str, *above: str) -> Summary:
        said = {f"i{n}": {"key": key} for n, key in enumerate(above)}
        return Summary(name, 0, step, f"t{name}", 0, {}, {}, said, "", None, {})

    keys = [f"{n:064x}" for n in range(12)]
    made = [result(keys[0], "model"), result(keys[1], "model")]
    for n in range(2, 12):
        above = [keys[m] for m in range(n) if (n * 7 + m * 5) % 3 == 0]
        made.append(result(keys[n], "model" if n % 5 == 0 else "tune", *above))
    for order in itertools.islice(itertools.permutations(made, 12), 0, 4000, 800):
        lineage = Lineage(order)
        for one in order:
            above = sorted(lineage.upstream([one.key]))
            wanted = [key for key in above if lineage.records[key].step == "model"]
            assert [r.key for r in lineage.depends_on(one, "model")] == wanted
