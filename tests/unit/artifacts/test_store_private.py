"""A store is private unless it was made for others, and a stamp is only its writer's word."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.results import payload, published
from typer.testing import CliRunner

from artifacts.canonical import canonical_bytes, parse
from artifacts.disk import signing
from artifacts.disk.stamps import Stamp, StampCache
from artifacts.errors import StoreFormatError
from artifacts.layout import FOLDERS
from artifacts.store import Store
from flows.cli.store.look import store_app
from flows.doctor.finding import State
from flows.doctor.store import access

UMASKS = [0o000, 0o022, 0o077]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def with_umask(umask: int, folder: Path, **options: bool) -> Store:
    before = os.umask(umask)
    try:
        return Store.open(folder, **options)
    finally:
        os.umask(before)


@pytest.mark.parametrize("umask", UMASKS)
@pytest.mark.parametrize("there", [False, True])
def test_a_new_store_is_private_whatever_the_umask(tmp_path, umask, there):
    root = tmp_path / "store"
    if there:
        root.mkdir(mode=0o777)
    store = with_umask(umask, root)
    assert {mode(root / name) for name in ("", *FOLDERS)} == {0o700}
    assert access(store).state is State.OK
    record = published(store)
    assert store.lookup(record.key) == record


def test_a_shared_one_is_a_choice_and_doctor_warns_of_it(tmp_path):
    with_umask(0o077, tmp_path / "other", shared=True)
    made = CliRunner().invoke(store_app, ["create", str(tmp_path / "store"), "--shared"])
    assert (made.exit_code, made.output.strip()[-13:]) == (0, "for its group")
    for name in ("store", "other"):
        store = Store.open(tmp_path / name)
        assert store.info.shared
        shards = [store.root / "objects" / "00", store.root / "records" / "ff"]
        assert {mode(p) for p in [store.root, store.root / "stat", *shards]} == {0o2770}
        found = access(store)
        assert found.state is State.WARNING
        assert "its group may write" in found.found
        assert "chmod 700" in found.advice
    again = CliRunner().invoke(store_app, ["create", str(tmp_path / "store")])
    assert isinstance(again.exception, StoreFormatError)


@pytest.mark.parametrize("place", ["", "objects", "stat", "objects/07", "records/ff"])
def test_an_older_store_keeps_working_and_doctor_tells_who_may_write(store, place):
    record = published(store)
    for name in ("", *FOLDERS):
        (store.root / name).chmod(0o755)
    opened = Store.open(store.root)
    assert opened.lookup(record.key) == record
    assert mode(store.root) == 0o755
    found = access(opened)
    assert (found.state, found.found) == (State.OK, "only you may write it, others may read it")
    (store.root / place).chmod(0o777)
    found = access(opened)
    assert found.state is State.WARNING
    assert "everybody may write" in found.found


def stamp_file(store: Store, digest: str) -> Path:
    (found,) = [
        p for p in (store.root / "stat").rglob("*") if p.is_file() and digest in p.read_text()
    ]
    return found


WRONG = st.fixed_dictionaries(
    {},
    optional={
        "signed": st.sampled_from(["", "0" * 64, None]),
        "extra": st.just(1),
    },
)


@settings(max_examples=20)
@given(fields=WRONG, key=st.none() | st.binary(min_size=32, max_size=32))
def test_a_forged_stamp_counts_for_nothing(tmp_path_factory, fields, key):
    """Whoever may write the objects and the stamps, but does not have the user's key."""
    folder = FORGED.setdefault("folder", tmp_path_factory.mktemp("forged") / "store")
    store = Store.open(folder)
    record = store.publish(payload(), {"a": b"right"})
    path = store.file_path(record, "a")
    known = parse(stamp_file(store, path.name).read_bytes())
    path.chmod(0o644)
    path.write_bytes(b"wrong")
    forged = {**known, "stamp": list(vars(Stamp.of(path.stat())).values()), **fields}
    if key is not None:  # signed with another user's key
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(signing, "_key", lambda _folder: key)
            StampCache(store.root / "stat", store.root / "tmp", write=True).remember(
                path.name, Stamp.of(path.stat()), path.name
            )
    else:
        stamp_file(store, path.name).write_bytes(
            canonical_bytes({k: v for k, v in forged.items() if v is not None})
        )
    assert Store.open(folder).lookup(record.key) is None


FORGED: dict[str, Path] = {}


def test_a_stamp_of_another_file_or_host_counts_for_nothing(store, monkeypatch):
    record = store.publish(payload(), {"a": b"right", "b": b"other"})
    a, b = (store.file_path(record, name) for name in "ab")
    files = {p.name: stamp_file(store, p.name) for p in (a, b)}
    moved = parse(files[b.name].read_bytes()) | {"name": a.name}
    files[a.name].write_bytes(canonical_bytes(moved))
    fresh = Store.open(store.root)
    assert fresh.stamps.recall(a.name, Stamp.of(b.stat())) is None
    assert fresh.stamps.recall(b.name, Stamp.of(b.stat())) == b.name
    folder = files[b.name].parents[1]
    monkeypatch.setattr("artifacts.disk.stamps.platform.node", lambda: "elsewhere")
    there = StampCache(store.root / "stat", store.root / "tmp", write=True)
    folder.rename(there._folder)
    assert there.recall(b.name, Stamp.of(b.stat())) is None


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """Where the key would lie, in a process that has not read it yet."""
    monkeypatch.setattr(signing, "user_data_folder", lambda: tmp_path / "data")
    signing._key.cache_clear()
    return tmp_path / "data"


@pytest.mark.parametrize("wrong", [b"", b"short", b"k" * 33, "readable", "link"])
def test_the_key_is_private_and_a_bad_one_is_replaced(home, wrong):
    first = signing.signature("x")
    key = home / "stamps.key"
    assert (mode(key), mode(home)) == (0o400, 0o700)
    signing._key.cache_clear()
    assert signing.signature("x") == first
    if wrong == "readable":
        key.chmod(0o444)
    elif wrong == "link":
        key.rename(home / "there")
        key.symlink_to(home / "there")
    else:
        key.unlink()
        key.write_bytes(wrong)
        key.chmod(0o400)
    signing._key.cache_clear()
    assert signing.signature("x") not in (None, first)
    assert mode(key) == 0o400
    assert not key.is_symlink()


def test_without_a_key_files_are_hashed_anew(home, store):
    home.write_bytes(b"in the way")
    record = published(store)
    assert list((store.root / "stat").rglob("*/*/*")) == []
    assert Store.open(store.root).lookup(record.key) == record
