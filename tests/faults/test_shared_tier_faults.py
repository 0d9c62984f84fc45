"""Whatever a bucket does: nothing wrong comes of it, and nothing acknowledged is lost.

Against a real S3 server, through a proxy that fails in one way at a time, for good: while one
machine publishes, while another looks the result up, or both.
"""

import logging
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from support.results import payload
from support.s3_server import (
    BUCKET,
    S3,
    Harm,
    cut_off,
    error,
    flipped,
    lost_reply,
    reset,
    s3_server,
    seems_absent,
    seems_present,
    skewed,
    truncated,
)

from artifacts.errors import RemoteDeniedError, RemoteError
from artifacts.records import Record
from artifacts.remote.bucket import PART, Bucket
from artifacts.remote.guarded import GuardedBackend
from artifacts.remote.object_store import ObjectStoreBackend
from artifacts.remote.probe import Capabilities, ServerClock
from artifacts.remote.sync import Moved, pull, push
from artifacts.remote.tier import SharedTier
from artifacts.store import Store

FILES = {"empty": b"", "large.bin": bytes(range(256)) * 300}
FOLDERS = count()
EVERY = "GET PUT POST HEAD DELETE"
HARMS: dict[str, tuple[str, str, Harm]] = {
    "500": (EVERY, "", error(500, "InternalError")),
    "503": (EVERY, "", error(503, "SlowDown")),
    "503 to whoever writes": ("PUT POST", "", error(503, "SlowDown")),
    "503 for objects": ("PUT POST", "/objects/", error(503, "SlowDown")),
    "503 for records": (EVERY, "/records/", error(503, "SlowDown")),
    "409": ("PUT", "", error(409, "ConditionalRequestConflict")),
    "412 for what is free": ("PUT", "/records/", error(412, "PreconditionFailed")),
    "credentials that expired": (EVERY, "", error(403, "ExpiredToken")),
    "credentials that expired, as S3 says it": (EVERY, "", error(400, "ExpiredToken")),
    "credentials that may not write": ("PUT POST DELETE", "", error(403, "AccessDenied")),
    "reset": (EVERY, "", reset),
    "reply lost": (EVERY, "", lost_reply),
    "reply lost of records": ("PUT", "/records/", lost_reply),
    "reset in a body": ("GET", "", cut_off),
    "reset in an object": ("GET", "/objects/", cut_off),
    "truncated": ("GET", "/objects/", truncated),
    "truncated record": ("GET", "/records/", truncated),
    "flipped": ("GET", "/objects/", flipped),
    "flipped record": ("GET", "/records/", flipped),
    "HEAD says absent": ("HEAD", "", seems_absent),
    "HEAD says present": ("HEAD", "", seems_present),
    "objects seem absent": ("GET HEAD", "/objects/", seems_absent),
    "records seem absent": ("GET HEAD", "/records/", seems_absent),
    "clock ahead": (EVERY, "", skewed(3.0)),
    "clock behind": (EVERY, "", skewed(-400.0)),
}


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with pytest.MonkeyPatch.context() as patch, s3_server(patch.setenv) as found:
        yield found


@pytest.fixture
def url(server: S3) -> Iterator[str]:
    yield f"s3://{BUCKET}/{next(FOLDERS)}"
    server.heal()


CAN = Capabilities(True, True, True, ServerClock(0.0, 0.0))
"""What a healthy server can do, so that not everybody has to find it out."""


def machine(
    folder: Path, url: str, can: Capabilities | None = None, *, seconds: float = 5.0
) -> Store:
    """A store as another process would open it: it remembers no trouble of the bucket."""
    store = Store.open(folder)
    bucket = Bucket(GuardedBackend(ObjectStoreBackend(url, seconds)), can)
    store.tier = SharedTier(bucket, store.root, store.objects, store.ledger)
    return store


def bucket_of(store: Store) -> Bucket:
    assert store.tier is not None
    return store.tier.bucket


def content(store: Store, record: Record) -> dict[str, bytes]:
    return {name: store.file_path(record, name).read_bytes() for name in record.files}


@pytest.mark.parametrize("name", HARMS)
def test_nothing_wrong_is_returned_and_nothing_acknowledged_is_lost(
    tmp_path: Path, server: S3, url: str, name: str
) -> None:
    key = payload().key()
    server.harms.append(HARMS[name])
    record = machine(tmp_path / "a", url).publish(payload(), FILES)
    server.heal()

    first = machine(tmp_path / "a", url, CAN)
    kept = first.lookup(key)
    assert kept == record
    assert content(first, kept) == FILES
    if bucket_of(first).current(key) is not None:  # then it is whole: its objects came first
        assert machine(tmp_path / "z", url, CAN).lookup(key) is not None
    list(push(first, bucket_of(first), [key]))

    server.harms.append(HARMS[name])
    other = machine(tmp_path / "b", url)
    found = other.lookup(key)
    assert found is None or content(other, found) == FILES
    # It computes what it cannot have, and what it makes is its own.
    made = other.publish(payload(), FILES)
    assert content(other, made) == FILES
    server.heal()

    last = machine(tmp_path / "c", url, CAN)
    brought = last.lookup(key)
    assert brought is not None
    assert content(last, brought) == FILES


def test_a_server_that_does_not_answer_is_asked_once(
    tmp_path: Path, server: S3, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One wait, one warning; then a thousand lookups and a publish go on without it."""
    server.harms.append((EVERY, "", server.slow))
    store = machine(tmp_path / "a", url, seconds=0.2)
    with caplog.at_level(logging.WARNING):
        for rank in range(1000):
            assert store.tier is not None
            assert store.tier.record(payload(rank).key()) is None
        store.publish(payload(), FILES)
    assert len(server.asked) <= 3  # one question and its repetitions
    (said,) = [r.getMessage() for r in caplog.records if "shared tier" in r.getMessage()]
    assert url in said
    assert "goes on with its own store" in said
    assert "paraknow store push" in said


def test_what_is_large_goes_in_parts_and_a_reset_in_one_of_them_costs_only_time(
    tmp_path: Path, server: S3, url: str
) -> None:
    data = bytes(range(251)) * (2 * PART // 251 + 4000)
    failed: set[str] = set()

    def once(request, forward):
        if request.path not in failed:
            failed.add(request.path)
            return reset(request, forward) if request.method == "PUT" else cut_off(request, forward)
        return forward()

    server.harms.append(("PUT GET", "/objects/", once))
    record = machine(tmp_path / "a", url).publish(payload(), {"large": data})
    assert any("partNumber" in path for path in failed)
    assert max(len(request.body) for request in server.asked) <= PART
    other = machine(tmp_path / "b", url)
    found = other.lookup(record.key)
    assert found is not None
    assert content(other, found) == {"large": data}
    ranges = {
        r.headers.get("range") for r in server.asked if r.method == "GET" and "objects" in r.path
    }
    assert f"bytes=0-{PART - 1}" in ranges
    assert len(ranges) >= 3


def test_a_wrong_body_that_stays_is_healed_by_whoever_computes_it_again(
    tmp_path: Path, server: S3, url: str
) -> None:
    record = machine(tmp_path / "a", url).publish(payload(), FILES)
    digest = record.files["large.bin"].digest
    backend = ObjectStoreBackend(url, 10.0)
    backend.put(f"objects/{digest[:2]}/{digest}", b"wrong")
    other = machine(tmp_path / "b", url)
    assert other.lookup(record.key) is None
    made = other.publish(payload(), FILES)
    assert content(other, made) == FILES
    third = machine(tmp_path / "c", url)
    found = third.lookup(record.key)
    assert found is not None
    assert content(third, found) == FILES


def test_push_and_pull_say_why_they_cannot(tmp_path: Path, server: S3, url: str) -> None:
    store = machine(tmp_path / "a", url)
    record = Store.open(tmp_path / "a").publish(payload(), FILES)
    server.harms.append(HARMS["credentials that expired"])
    with pytest.raises(RemoteDeniedError, match="credentials set, valid and not expired"):
        list(push(store, bucket_of(store), [record.key]))
    server.heal()
    nowhere = Bucket(ObjectStoreBackend("s3://nobucket/x", 10.0))
    with pytest.raises(RemoteError, match="there is no bucket"):
        list(pull(store, nowhere, [record.key]))
    store = machine(tmp_path / "a", url)
    assert list(push(store, bucket_of(store), [record.key])) == [Moved(record, "new")]
    assert list(push(store, bucket_of(store), [record.key])) == [Moved(record, "present")]
