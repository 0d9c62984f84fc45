"""A publish that is killed, or refused by the system, at each of its system calls."""

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from support import publisher
from support.disk import small_disk
from support.strace import lay_out, require_strace, run_traced

from artifacts.care.verify import verify
from artifacts.errors import StoreFullError, StoreReadOnlyError
from artifacts.store import Store

pytestmark = pytest.mark.faults

# A kill before a call that only reads leaves what a kill before the next of these leaves.
CHANGING = ("openat", "write", "fchmod", "fsync", "mkdir", "rename", "link", "symlink", "unlink")
READING = ("newfstatat", "readv", "read", "getdents64", "readlink", "statfs")
ERRORS = ("EIO", "ENOSPC", "EDQUOT", "EROFS")
SCRIPT = [publisher.__file__, "store", "outside", "warm"]


class Point(NamedTuple):
    """The ``number``-th call of ``name`` since the process started, as strace counts them."""

    name: str
    number: int


@pytest.fixture(scope="module")
def calls(tmp_path_factory) -> list[Point]:
    """Every system call of an undisturbed publish, in order; skips where none can be traced."""
    require_strace()
    folder = tmp_path_factory.mktemp("undisturbed")
    lay_out(folder)
    done = run_traced(folder, SCRIPT, "-e", f"trace=access,{','.join(CHANGING + READING)}")
    assert (done.returncode, done.stdout) == (0, "acknowledged\n"), done.stderr
    return points_between_marks((folder / "trace").read_text())


def points_between_marks(trace: str) -> list[Point]:
    counts: Counter[str] = Counter()
    found, inside = [], False
    for match in re.finditer(r"^\d+ +(\w+)\((.*)$", trace, re.MULTILINE):
        name, rest = match.groups()
        counts[name] += 1
        if publisher.BEGIN in rest:
            inside = True
        elif publisher.END in rest:
            return found
        elif inside:
            found.append(Point(name, counts[name]))
    raise AssertionError("the trace has no marks")


def inject(
    folder: Path, point: Point, what: str, *options: str
) -> subprocess.CompletedProcess[str]:
    lay_out(folder)
    fault = f"inject={point.name}:{what}:when={point.number}"
    return run_traced(folder, SCRIPT, *options, "-e", f"trace={point.name}", "-e", fault)


def check_promises(root: Path, *, acknowledged: bool) -> None:
    """Nothing corrupt, nothing dangling, nothing acknowledged is lost; a plain re-run heals."""
    store = Store.open(root)
    key = publisher.PAYLOAD.key()
    found = store.lookup(key)
    assert found is not None or not acknowledged
    assert verify(store) == []
    outside = root.parent / "outside"
    record = store.publish(publisher.PAYLOAD, publisher.sources(store, outside))
    assert found in (None, record)
    assert verify(store) == []
    again = Store.open(root).lookup(key)
    view = store.tree_path(again)
    assert {name: (view / name).read_bytes() for name in again.files} == publisher.CONTENT
    assert list((root / "quarantine").iterdir()) == []


def failures(tasks, check) -> list[str]:
    """Run ``check`` on all tasks, two at a time, and tell which ones failed and how."""

    def attempt(task) -> str:
        try:
            check(task)
        except AssertionError as error:
            return f"{task}: {error}"
        return ""

    with ThreadPoolExecutor(2) as pool:
        return [said for said in pool.map(attempt, tasks) if said]


def test_a_publish_killed_before_any_change_leaves_no_damage_and_a_rerun_heals(
    calls, memory, figures
):
    points = [point for point in calls if point.name in CHANGING]
    assert len(points) > 40

    def check(point: Point) -> None:
        folder = memory / f"{point.name}-{point.number}"
        done = inject(folder, point, "signal=KILL")
        assert done.returncode == -9, f"not killed: {done.stdout} {done.stderr}"
        check_promises(folder / "store", acknowledged=False)
        shutil.rmtree(folder)

    assert failures(points, check) == []
    figures(kills=len(points))


def test_a_publish_met_by_an_error_says_what_it_is_and_leaves_no_damage(calls, memory, figures):
    """Each call gets one of the four errors in turn; those that only read are sampled."""
    points = [p for p in calls if p.name in CHANGING]
    points += [p for p in calls if p.name in READING][::5]
    tasks = [(point, ERRORS[i % len(ERRORS)]) for i, point in enumerate(points)]
    refused = []

    def check(task: tuple[Point, str]) -> None:
        point, error = task
        folder = memory / f"{point.name}-{point.number}"
        # Quicker by half; with it, strace 6.1 delivers no signals, so the kills go without.
        done = inject(folder, point, f"error={error}", "--seccomp-bpf")
        assert done.returncode in (0, 3), f"an untyped error: {done.stderr[-600:]}"
        if done.returncode == 3:
            check_message(done.stdout, point, error, folder / "store")
            refused.append(task)
        check_promises(folder / "store", acknowledged=done.returncode == 0)
        shutil.rmtree(folder)

    assert failures(tasks, check) == []
    assert len(refused) > len(points) // 4
    figures(faults=len(points))


def check_message(said: str, point: Point, error: str, root: Path) -> None:
    name, _, text = said.partition(": ")
    assert str(root) in text or "outside" in text, said
    if text.startswith("cannot write"):
        expected = {"ENOSPC": "StoreFullError", "EDQUOT": "StoreFullError"}
        assert name == (expected | {"EROFS": "StoreReadOnlyError", "EIO": "StoreIOError"})[error]
        assert (" are free" in text) == (name == "StoreFullError"), said


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small", 5) as disk:
        yield disk


@pytest.mark.figures(faults=1)
def test_a_full_disk_is_told_with_the_space_left_and_reading_goes_on(disk):
    store = Store.open(disk / "store")
    first = store.publish(publisher.PAYLOAD, {"a": b"a" * 1000})
    large = publisher.PAYLOAD.__class__(step="large", version=1, config={}, inputs={})
    with pytest.raises(StoreFullError, match=rf"{disk}.* are free"):
        store.publish(large, {"b": os.urandom(6_000_000)})
    assert list((store.root / "tmp").iterdir()) == []
    assert Store.open(store.root).lookup(first.key) == first
    assert verify(store) == []
    assert store.publish(large, {"b": b"less"}).step == "large"


@pytest.mark.figures(faults=3)
def test_a_disk_mounted_read_only_is_read_and_refuses_before_the_work(disk):
    store = Store.open(disk / "store")
    record = store.publish(publisher.PAYLOAD, {"a": b"a"})
    store.tree_path(record)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    reader = Store.open(store.root)
    assert reader.lookup(record.key) == record
    assert (reader.tree_path(record) / "a").read_bytes() == b"a"
    with reader.lease(record.key, wait=0) as held:
        assert not held
    with pytest.raises(StoreReadOnlyError, match=str(disk)):
        reader.check_writable()
    with pytest.raises(StoreReadOnlyError, match=str(disk)):
        reader.publish(publisher.PAYLOAD, {"b": b"b"}, replaces=record)
