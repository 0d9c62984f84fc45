"""``paraknow store push, pull, sync, gc --remote``, and ``doctor``, on the shared tier."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.memory_tier import Memory
from support.results import payload, published
from support.store_command import run

from artifacts.errors import RemoteDeniedError, RemoteError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.remote.backends import BACKENDS
from artifacts.remote.probe import Capabilities, ServerClock
from artifacts.store import Store
from flows.doctor import remote as doctor_remote
from flows.doctor.finding import State
from flows.doctor.remote import check_remote


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory(f"memory:/{tmp_path}")
    monkeypatch.setitem(BACKENDS, "memory", lambda _url: memory)
    monkeypatch.setenv("PARAKNOW_REMOTE", memory.url)
    return memory


def test_results_go_from_store_to_store_by_the_tier(tmp_path: Path, memory: Memory) -> None:
    one, other = Store.open(tmp_path / "a"), Store.open(tmp_path / "b")
    source = published(one)
    inputs = {"source": {"step": source.step, "key": source.key, "digest": source.tree}}
    result = one.publish(
        KeyPayload(step="lora", version=1, config={}, inputs={"source": source.tree}),
        {"out": b"x"},
        provenance={"inputs": inputs},
    )
    said = run(one, "push", result.key[:12])
    assert said.count("is new in memory:") == 2
    assert run(one, "push", result.key[:12]).count("is already in memory:") == 2
    with pytest.raises(UnknownKeyError, match="no record"):
        run(other, "pull", "0123")
    said = run(other, "pull", result.key[:12])
    assert said.count(f"is new in {other.root}") == 2
    assert sorted(r.key for r in other.records()) == sorted([source.key, result.key])
    third = published(other, rank=5)
    said = run(other, "sync", result.key, third.key[:8])
    assert said.count("is already in memory:") == 2
    assert said.count("is new in memory:") == 1


def test_without_a_tier_it_says_what_to_set(tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(RemoteError, match="set PARAKNOW_REMOTE, or give --remote"):
        run(Store.open(tmp_path / "a"), "push", "abc")


def test_the_tier_is_collected_on_request(tmp_path: Path, memory: Memory) -> None:
    store = Store.open(tmp_path / "a")
    record = published(store)
    run(store, "push", record.key)
    said = run(store, "gc", "--remote", "--older-than", "1d")
    assert "0 results go, 1 stay" in said
    assert "nothing was removed without --apply" in said
    arguments = ("gc", "--remote", "--older-than", "0d", "--grace", "0d")
    assert [r["key"] for r in json.loads(run(store, *arguments, "--json"))["records"]] == [
        record.key
    ]
    assert "1 results go, 0 stay" in run(store, *arguments, "--apply")
    assert not any(name.startswith("records/") for name in memory.files)
    assert store.lookup(payload().key()) == record
    assert "collected by age" in run(store, "gc", "--remote", "--max-size", "1GB", code=2)


def test_doctor_tells_what_a_tier_can_do(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_remote, "time", SimpleNamespace(time=lambda: memory.now))
    assert {f.topic: f.state for f in check_remote()} == {
        "shared tier": State.OK,
        "shared tier can": State.OK,
        "shared tier clock": State.OK,
    }
    assert not any(name.startswith("probe/") for name in memory.files)
    memory.conditional = False
    memory.now += 1e6
    monkeypatch.setattr(doctor_remote, "time", SimpleNamespace(time=lambda: 1e9))
    found = {f.topic: f for f in check_remote()}
    assert found["shared tier can"].state is State.WARNING
    assert "put a file only where there is none" in found["shared tier can"].found
    assert found["shared tier clock"].state is State.WARNING
    assert "1000000 s ahead" in found["shared tier clock"].found


@pytest.mark.parametrize(
    ("error", "state"), [(RemoteError, State.WARNING), (RemoteDeniedError, State.FAILED)]
)
def test_doctor_tells_credentials_from_a_tier_that_is_down(memory, monkeypatch, error, state):
    def refuse(*_arguments: object) -> None:
        raise error("as the test wants")

    monkeypatch.setattr(Memory, "get", refuse)
    (found,) = check_remote()
    assert (found.state, found.found) == (state, "as the test wants")


def test_doctor_is_silent_about_a_tier_that_is_not_set() -> None:
    assert list(check_remote()) == []


def test_a_service_without_ranges_is_told() -> None:
    found = doctor_remote._abilities(Capabilities(True, False, True, ServerClock(0, 0)))
    assert "give a part of a file" in found.found
    assert "larger than 8 MB" in found.advice
