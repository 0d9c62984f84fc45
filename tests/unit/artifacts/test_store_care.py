import json
from pathlib import Path

import pytest
import typer
from support.results import payload, published
from support.store_command import run

from artifacts.care.verify import verify
from artifacts.errors import CorruptObjectError, CorruptRecordError, StoreIOError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.names import Digest
from artifacts.queries.lineage import Lineage
from artifacts.queries.usage import usage
from artifacts.records import Record
from artifacts.store import Store
from artifacts.transport import export, import_results
from flows.cli.store.options import parse_age, parse_size


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def family(store: Store) -> dict[str, Record]:
    """A model from outside, data, a result of both, one made of it, and one that has no model."""
    outside = KeyPayload(
        step="acquire-model", version=1, config={}, inputs={"files": Digest("f" * 64)}
    )
    made = {
        "model": store.publish(
            outside, {"m.json": b"model"}, facts={"model_type": "qwen3", "parameters": 596_000_000}
        ),
        "data": store.publish(payload(0, "acquire-data"), {"d": b"d" * 100}),
    }
    made["scores"] = child(store, "sensitivity", teacher=made["model"], data=made["data"])
    made["layers"] = child(store, "align", scores=made["scores"])
    return made


def child(store: Store, step: str, **inputs: Record) -> Record:
    said = {role: {"step": r.step, "key": r.key, "digest": r.tree} for role, r in inputs.items()}
    # As a step that reads but one file of each input: only the provenance names the results.
    digests = {f"{role}.a": next(iter(r.files.values())).digest for role, r in inputs.items()}
    made_of_them = KeyPayload(step=step, version=1, config={}, inputs=digests)
    times = {"finished": "2026-01-01T00:00:00+00:00"}
    return store.publish(
        made_of_them, {"out": step.encode() * 50}, provenance={"inputs": said, **times}
    )


def test_lineage_reaches_models_and_data_from_outside(store):
    made = family(store)
    text = run(store, "lineage", made["layers"].key)
    assert [line.strip().rpartition(" ")[0] for line in text.splitlines()] == [
        "align",
        "scores: sensitivity",
        "data: acquire-data",
        "teacher: acquire-model",
        "files: content ffffffffffff (from outside the",
    ]
    rows = json.loads(run(store, "lineage", made["layers"].key, "--json"))["inputs"]
    assert [(row["depth"], row["role"]) for row in rows] == [
        (1, "scores"),
        (2, "data"),
        (2, "teacher"),
        (3, "files"),
    ]


def test_lineage_names_what_is_no_longer_stored(store):
    made = family(store)
    store.ledger.path(made["scores"].key).unlink()
    text = run(store, "lineage", made["layers"].key)
    assert f"scores: sensitivity {made['scores'].key[:12]} (no longer stored)" in text


def test_users_are_shown(store):
    made = family(store)
    assert [r.step for r in Lineage.of(store).users(made["model"])] == ["sensitivity"]
    shown = json.loads(run(store, "show", made["scores"].key, "--json"))
    assert shown["used_by"] == [{"key": made["layers"].key, "step": "align"}]
    assert "used by no stored result" in run(store, "show", made["layers"].key)


def test_usage_counts_shared_objects_once_and_tells_what_is_of_its_own(store):
    one = store.publish(payload(1, "svd"), {"a": b"s" * 1000, "b": b"x" * 10})
    store.publish(payload(2, "svd"), {"a": b"s" * 1000})
    other = store.publish(payload(3, "lora"), {"a": b"s" * 1000, "c": b"c" * 500})
    store.objects.put_bytes(b"u" * 77)
    found = usage(store, model_step="acquire-model")
    shares = {share.name: share for share in found.by_step}
    trees = {r.key: store.objects.path(r.tree).stat().st_size for r in store.records()}
    own = trees[one.key] + trees[payload(2, "svd").key()] + 10
    assert (shares["svd"].results, shares["svd"].own_bytes) == (2, own)
    assert shares["svd"].bytes == own + 1000
    assert shares["lora"].own_bytes == 500 + trees[other.key]
    assert found.unused_bytes == 77
    assert found.object_bytes == own + 1000 + shares["lora"].own_bytes + 77


def test_usage_by_model_follows_the_lineage(store):
    made = family(store)
    store.publish(payload(5, "svd"), {"a": b"no model"})
    found = {
        share.name: share.results for share in usage(store, model_step="acquire-model").by_model
    }
    assert found == {f"qwen3 596.0M {made['model'].key[:12]}": 3, "(no model)": 2}
    assert "qwen3 596.0M" in run(store, "du")
    assert json.loads(run(store, "du", "--json"))["by_model"][0]["results"] in (2, 3)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--model", "qwen3"], {"acquire-model", "sensitivity", "align"}),
        (["--model", "llama"], set()),
        (["--larger-than", "200B"], {"sensitivity", "align"}),
        (["--older-than", "1d"], {"sensitivity", "align"}),
        (["--newer-than", "1h"], set()),
        (["--step", "align", "--larger-than", "1kB"], set()),
    ],
)
def test_ls_filters(store, options, steps):
    family(store)
    assert {row["step"] for row in json.loads(run(store, "ls", "--json", *options))} == steps


def test_gc_without_options_takes_nothing_young(store):
    record = published(store)
    lost = store.objects.path(store.objects.put_bytes(b"x" * 2000).digest)
    assert "nothing was removed" in run(store, "gc")
    run(store, "gc", "--apply")
    assert lost.exists()
    assert store.lookup(record.key) is not None


def test_gc_says_first_and_does_it_only_when_told(store):
    record = published(store)
    lost = store.objects.path(store.objects.put_bytes(b"x" * 2000).digest)
    text = run(store, "gc", "--grace", "0min")
    assert "1 objects: 2.0 kB" in text
    assert "nothing was removed" in text
    assert lost.exists()
    done = json.loads(run(store, "gc", "--grace", "0min", "--apply", "--json"))
    assert (done["applied"], done["done"]["objects"], done["kept"]) == (True, 1, 1)
    assert not lost.exists()
    text = run(store, "gc", "--grace", "0min", "--max-size", "0B", "--apply")
    assert record.key[:12] in text
    assert "removed 1 results" in text
    assert store.lookup(record.key) is None


def test_pin_and_unpin(store):
    record = published(store)
    assert "pinned as paper" in run(store, "pin", record.key[:8], "paper")
    assert record.key in run(store, "pin")
    run(store, "gc", "--grace", "0min", "--max-size", "0B", "--apply")
    assert store.lookup(record.key) == record
    run(store, "unpin", "paper")
    assert run(store, "pin") == ""


def test_verify_repairs_so_that_the_next_one_finds_nothing(store):
    record = published(store)
    path = store.file_path(record, "u.bin")
    path.chmod(0o644)
    path.write_bytes(b"v" * 1000)
    text = run(store, "verify", "--repair")
    assert "2 repaired, 0 left" in text
    assert "intact" in run(store, "verify")
    assert published(store).files == record.files


def test_an_export_is_real_files_and_comes_back_equal(store, tmp_path):
    record = published(store)
    run(store, "export", record.key[:8], str(tmp_path / "out"))
    assert not (tmp_path / "out" / "u.bin").is_symlink()
    assert (tmp_path / "out" / "sub" / "s.json").read_bytes() == b"{}"
    (tmp_path / "out" / "u.bin").chmod(0o644)
    other = Store.open(tmp_path / "other")
    assert "is new" in run(other, "import", str(tmp_path / "out"))
    assert "already" in run(other, "import", str(tmp_path / "out"))
    assert Store.open(other.root).lookup(record.key) == record
    assert verify(other) == []
    with pytest.raises(StoreIOError, match="no empty folder"):
        export(store, record, tmp_path / "out")


@pytest.mark.parametrize("damage", ["file", "link", "missing", "record"])
def test_a_damaged_export_is_refused_and_leaves_no_record(store, tmp_path, damage):
    record = published(store)
    folder = tmp_path / "out"
    export(store, record, folder)
    errors = {
        "file": CorruptObjectError,
        "link": StoreIOError,
        "missing": StoreIOError,
        "record": CorruptRecordError,
    }
    if damage == "file":
        (folder / "u.bin").write_bytes(b"v" * 1000)
    elif damage == "record":
        (said,) = (folder / ".paraknow").iterdir()
        said.write_bytes(said.read_bytes().replace(b"0.5", b"0.6"))
    else:
        (folder / "u.bin").unlink()
        if damage == "link":
            (folder / "u.bin").symlink_to("/etc/passwd")
    other = Store.open(tmp_path / "other")
    with pytest.raises(errors[damage]):
        import_results(other, folder)
    assert list(other.ledger.all_keys()) == []


def test_a_store_is_imported_with_what_the_result_was_made_from(store, tmp_path):
    made = family(store)
    extra = published(store, 99)
    other = Store.open(tmp_path / "other")
    run(other, "import", str(store.root), "--key", made["scores"].key[:10])
    assert {r.step for r in other.records()} == {"acquire-model", "acquire-data", "sensitivity"}
    taken = import_results(other, store.root)
    steps = [t.record.step for t in taken]
    assert steps.index("sensitivity") < steps.index("align")
    assert sorted(t.how for t in taken) == ["new", "new", "present", "present", "present"]
    assert other.lookup(extra.key) == extra
    assert verify(other) == []


def test_an_import_never_replaces_what_is_here(store, tmp_path):
    other = Store.open(tmp_path / "other")
    theirs = other.publish(payload(), {"a": b"theirs"})
    ours = store.publish(payload(), {"a": b"ours"})
    (taken,) = import_results(store, other.root)
    assert (taken.how, taken.record) == ("kept", ours)
    assert theirs.tree != ours.tree


def test_a_folder_that_is_neither_is_refused(store, tmp_path):
    with pytest.raises(UnknownKeyError, match="neither a store nor an exported result"):
        import_results(store, tmp_path)


@pytest.mark.parametrize(
    ("text", "value"), [("90min", 5400.0), ("12h", 43200.0), ("30d", 2592000.0), ("1.5w", 907200.0)]
)
def test_ages(text, value):
    assert parse_age(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0B", 0), ("500MB", 500_000_000), ("1.5 GB", 1_500_000_000)]
)
def test_sizes(text, value):
    assert parse_size(text) == value


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1e3h", "30m", "5 GB x"])
def test_other_ages_and_sizes_are_refused_with_an_example(text):
    with pytest.raises(typer.BadParameter, match="such as"):
        parse_age(text)
    with pytest.raises(typer.BadParameter, match="such as"):
        parse_size(text)
