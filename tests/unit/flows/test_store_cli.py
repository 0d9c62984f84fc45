import json
from pathlib import Path

import pytest
from support.results import payload, published
from support.store_command import run
from typer.testing import CliRunner

from artifacts.errors import StoreFormatError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.queries.explain import explain
from artifacts.records import Record
from artifacts.store import Store
from flows.cli.store.look import store_app


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def chain(store: Store, rank: int, *, named: bool) -> Record:
    """A decompose result, and a lora result made of it; ``named`` puts the key into provenance."""
    first = store.publish(payload(rank), {"out": b"%d" % rank})
    inputs = {"factors": {"digest": first.tree, "key": first.key, "step": first.step}}
    return store.publish(
        KeyPayload(step="lora", version=1, config={"alpha": 2}, inputs={"factors": first.tree}),
        {"adapter": b"%d" % rank},
        provenance={"inputs": inputs} if named else {},
    )


def test_ls_lists_the_newest_first_and_filters_by_step(store):
    for day, step in ((1, "svd"), (3, "lora"), (2, "svd")):
        store.publish(
            payload(day, step),
            {"a": b"x" * 1500},
            provenance={"finished": f"2026-01-0{day}T00:00:00+00:00", "seconds": 12.34},
        )
    rows = json.loads(run(store, "ls", "--json"))
    assert [(row["step"], row["finished"][8:10]) for row in rows] == [
        ("lora", "03"),
        ("svd", "02"),
        ("svd", "01"),
    ]
    table = run(store, "ls", "--step", "lora")
    assert rows[0]["key"][:12] in table
    assert "12.3" in table
    assert "1.5 kB" in table
    assert rows[1]["key"][:12] not in table


def test_show_gives_paths_that_open(store):
    record = published(store)
    shown = json.loads(run(store, "show", record.key[:8], "--json"))
    assert shown["key"] == record.key
    assert Path(shown["paths"]["sub/s.json"]).read_bytes() == b"{}"
    text = run(store, "show", record.key)
    assert "rank: 16" in text
    assert "energy: 0.5" in text
    assert str(store.tree_path(record)) in text


@pytest.mark.parametrize("named", [True, False], ids=["by provenance", "by output"])
def test_explain_follows_an_input_to_the_setting_that_changed_it(store, named):
    a, b = chain(store, 4, named=named), chain(store, 8, named=named)
    (found,) = explain(store, a, b)
    assert found.difference.field == "inputs.factors"
    assert (found.a.step, found.b.step) == ("decompose", "decompose")
    assert [tuple(e.difference) for e in found.because] == [("config.rank", 4, 8)]
    text = run(store, "explain", a.key, b.key)
    assert "config.rank: 4 in A, 8 in B" in text
    assert f"decompose {found.a.key[:12]}" in text


def test_explain_of_one_key_with_itself(store):
    key = published(store).key
    assert "equal" in run(store, "explain", key, key)


def test_verify_fails_on_damage_and_says_what_to_do(store):
    record = published(store)
    assert "intact" in run(store, "verify")
    path = store.file_path(record, "u.bin")
    path.chmod(0o644)
    path.write_bytes(b"v" * 1000)
    text = run(store, "verify", code=1)
    assert path.name in text
    assert "run its step again" in text
    published(store)
    assert "intact" in run(store, "verify")


def test_commands_on_nothing_create_nothing(tmp_path):
    for arguments in (["ls"], ["show", "ab"], ["verify"]):
        with pytest.raises(StoreFormatError, match="no store at"):
            CliRunner().invoke(
                store_app, [*arguments, "--store", str(tmp_path / "s")], catch_exceptions=False
            )
    assert not (tmp_path / "s").exists()


def test_an_unknown_key_is_an_error_of_the_store(store):
    with pytest.raises(UnknownKeyError, match="abc"):
        run(store, "show", "abc")
