"""A lookup whose system calls fail: an error of the disk is never taken for corruption."""

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from support import publisher, reader
from support.strace import lay_out, require_strace, run_traced

from artifacts.store import Store

pytestmark = pytest.mark.faults

SCRIPT = [reader.__file__, "store", "warm"]
CALLS = ("openat", "newfstatat", "read", "readv")
ERRORS = ("EIO", "EACCES", "EMFILE")


def stored(folder: Path) -> None:
    lay_out(folder)
    for name in ("store", "warm"):
        store = Store.open(folder / name)
        store.publish(publisher.PAYLOAD, publisher.sources(store, folder / "outside"))
        shutil.rmtree(folder / name / "stat")  # so that every object is read
        (folder / name / "stat").mkdir()


@pytest.fixture
def points(memory: Path) -> list[tuple[str, int]]:
    """The calls of an undisturbed lookup that read, as strace counts them."""
    require_strace()
    stored(memory)
    done = run_traced(memory, SCRIPT, "-e", f"trace=access,{','.join(CALLS)}")
    assert done.stdout == "hit\n", done.stderr
    counts: Counter[str] = Counter()
    found, inside = [], False
    for name, rest in re.findall(r"^\d+ +(\w+)\((.*)$", (memory / "trace").read_text(), re.M):
        counts[name] += 1
        if publisher.BEGIN in rest or publisher.END in rest:
            inside = publisher.BEGIN in rest
        elif inside and "/stat/" not in rest and "/tmp/" not in rest:
            found.append((name, counts[name]))
    return found


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_read_error_is_retried_or_told_and_nothing_is_quarantined(
    memory, points, lasting, figures
):
    assert {name for name, _ in points} == set(CALLS)
    chosen = points[::2] if lasting else points[1::2]
    told = 0
    for i, (name, number) in enumerate(chosen):
        shutil.rmtree(memory / "store" / "stat")
        (memory / "store" / "stat").mkdir()
        error = ERRORS[i % len(ERRORS)]
        fault = f"inject={name}:error={error}:when={number}{'+' if lasting else ''}"
        done = run_traced(memory, SCRIPT, "--seccomp-bpf", "-e", f"trace={name}", "-e", fault)
        if done.returncode:
            assert done.returncode == 3, f"an untyped error at {name} {number}: {done.stderr}"
            assert re.match(r"StoreIOError: cannot read /.*: .*judged corrupt", done.stdout)
            told += 1
        else:
            assert done.stdout == "hit\n", (name, number, error)
        assert list((memory / "store" / "quarantine").iterdir()) == []
    assert Store.open(memory / "store").lookup(publisher.PAYLOAD.key()) is not None
    assert told >= len(chosen) // 2 if lasting else told == 0
    figures(faults=len(chosen))
