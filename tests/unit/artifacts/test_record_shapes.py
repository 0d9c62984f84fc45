"""A record that anybody may have written is refused with a sentence, or everything can use it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st
from support.results import in_quarantine, payload
from support.store_command import run

from artifacts.canonical import canonical_bytes
from artifacts.errors import CanonicalError, CorruptRecordError, StoreError, StoreFormatError
from artifacts.keys import KeyPayload
from artifacts.names import StepKey
from artifacts.queries.find import find_record
from artifacts.records import decode_record
from artifacts.store import Store
from artifacts.transport import export
from paraknow_core.errors import ParaknowError
from tasks.engine.code.drift import drift_of
from tasks.engine.ref import ref_of
from tasks.engine.source_files import Source
from tasks.reproduce import reproduce
from tasks.steps import STEPS

PROVENANCE = {
    "started": "2026-01-01T00:00:00+00:00",
    "finished": "2026-01-01T00:00:01+00:00",
    "seconds": 1.5,
    "label": "model",
    "device": "cpu",
    "threads": 2,
    "location": "/models/m",
    "libraries": {"torch": "2.6.0"},
    "code": {"function": "tasks.x:f", "modules": {"tasks.x": {"file": "ab", "reached": "cd"}}},
    "config": {"model": "m"},
    "inputs": {"built": {"step": "pretrain", "key": "1" * 64, "digest": "2" * 64, "location": ""}},
}
ODD = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            -1,
            10**400,
            -(10**30),
            2**64,
            1e308,
            "",
            "\x1b[2J",
            "9999-12-31T23:59:59-23:59",
            "0001-01-01T00:00:00+23:59",
            [],
            {},
            [1],
            {"a": "b"},
            [[{}]],
        ]
    ),
    st.text(max_size=4),
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store.open(tmp_path_factory.mktemp("shapes") / "store")


@pytest.fixture(scope="module")
def exported(store) -> tuple[Path, dict[str, Any]]:
    """An exported result, and the body of its record."""
    record = store.publish(
        payload(1, "acquire-model"),
        {"a": b"x"},
        facts={"model_type": "llama", "parameters": 5, "folder_name": "m"},
        provenance=PROVENANCE,
    )
    export(store, record, store.root.parent / "export")
    return store.root.parent / "export", record.as_json()


def places(value: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into a body."""
    inner = value.items() if isinstance(value, dict) else ()
    return [where, *(place for name, item in inner for place in places(item, (*where, name)))]


def forged(body: dict[str, Any], place: tuple[Any, ...], odd: Any) -> tuple[str, bytes]:
    """The record with another value at a place, key and check digests as a forger sets them."""
    body = json.loads(json.dumps(body))
    below = body
    for name in place[:-1]:
        below = below[name]
    below[place[-1]] = odd
    if place[0] == "payload" and isinstance(body["payload"], dict):
        body["key"] = blake3(canonical_bytes(body["payload"])).hexdigest()
    check = blake3(canonical_bytes(body)).hexdigest()
    return str(body["key"]), canonical_bytes({"record": body, "check": check})


def use_everywhere(store: Store, key: str, folder: Path) -> None:
    """Everything that a person can do with a result."""
    for command in (["import", str(folder)], ["ls"], ["du"], ["show", key], ["lineage", key]):
        run(store, *command)
    run(store, "ls", "--newer-than", "1d", "--larger-than", "1B", "--model", "llama")
    record = find_record(store, key)
    drift_of(STEPS["acquire-model"].compute, record)
    ref_of("model", record, Source(), cached=True)
    reproduce(store, record, work=folder / "work")


def test_a_forged_record_is_refused_or_usable(store, exported):
    folder, body = exported
    (stored,) = (folder / ".paraknow").iterdir()
    refused, used = [0], [0]

    @settings(max_examples=60)
    @given(st.data())
    def with_any(data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([p for p in places(body) if p and p != ("key",)]))
        key, forgery = forged(body, place, data.draw(ODD))
        try:
            decode_record(forgery, key=StepKey(key), generation=0)
        except (CorruptRecordError, StoreFormatError):
            refused[0] += 1
            return
        for path in (folder / ".paraknow").iterdir():
            path.unlink()
        (folder / ".paraknow" / f"{key}.json").write_bytes(forgery)
        for path in (store.root / "records").glob("*/*.json"):
            path.unlink()
        used[0] += 1
        with contextlib.suppress(StoreError, ParaknowError):  # a sentence; no other error passes
            use_everywhere(store, key, folder)

    with_any()
    (folder / ".paraknow" / stored.name).write_bytes(b"")
    assert refused[0] > 10
    assert used[0] > 10


@pytest.mark.parametrize("field", ["facts", "provenance"])
def test_one_that_lies_in_a_store_is_quarantined_and_told(tmp_path, exported, field, caplog):
    store = Store.open(tmp_path / "store")
    key, forgery = forged(exported[1], (field,), [])
    store.ledger.path(StepKey(key)).write_bytes(forgery)
    assert "0 results" in run(store, "ls")
    assert in_quarantine(store) == [forgery]
    assert f"{field}: Input should be" in caplog.text


def test_what_could_not_be_read_again_is_not_published(tmp_path):
    store = Store.open(tmp_path / "store")
    for wrong in ({"parameters": 10**400}, {"parameters": "many"}):
        with pytest.raises(CanonicalError, match="the result of decompose cannot be stored"):
            store.publish(payload(), {"a": b"1"}, facts=wrong)
    assert list(store.objects.digests()) == []


def test_old_records_with_little_in_them_stay_valid(tmp_path):
    store = Store.open(tmp_path / "store")
    made = KeyPayload(step="lora", version=1, config={}, inputs={}, seed=2**63)
    record = store.publish(made, {"a": b"1"}, facts={"any": [1, None]}, provenance={"host": "h"})
    assert Store.open(store.root).lookup(made.key()) == record
