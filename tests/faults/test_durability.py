"""What an acknowledged publish may rely on, read from its system calls, and what each sync is for.

The trace is replayed on a model disk that keeps nothing it did not promise. Taking out any one
fsync, or writing the record before its objects, must break a promise here: the mutations patch the
code of a real publisher process.
"""

from pathlib import Path

import pytest
from support import publisher
from support.durability import Model, replay
from support.strace import lay_out, mutant, require_strace, run_traced

pytestmark = pytest.mark.faults

TRACE = "trace=access,openat,write,ftruncate,fsync,fdatasync,rename,link,linkat"
SYNCS = 10  # bytes and folder of three files, their tree object and the record


@pytest.fixture(scope="module", autouse=True)
def strace() -> None:
    require_strace()


def publish(folder: Path, mutation: str) -> Model:
    lay_out(folder)
    done = run_traced(folder, mutant(mutation), "-e", TRACE)
    assert (done.returncode, done.stdout) == (0, "acknowledged\n"), done.stderr
    return replay((folder / "trace").read_text(), folder, end=publisher.END)


def syncs_after_the_mark(folder: Path) -> int:
    trace = (folder / "trace").read_text()
    return trace.partition(publisher.BEGIN)[2].count("fsync(")


def test_what_is_acknowledged_is_durable_and_no_record_comes_before_its_objects(memory):
    model = publish(memory, "none")
    assert model.broken == []
    assert sum("/store/records/" in name for name in model.names) == 1
    assert sum("/store/objects/" in name for name in model.names) == 4
    assert syncs_after_the_mark(memory) == SYNCS


@pytest.mark.figures(faults=1)
@pytest.mark.parametrize("number", range(1, SYNCS + 1))
def test_without_any_one_fsync_a_promise_is_broken(memory, number):
    model = publish(memory, f"without-fsync-{number}")
    assert syncs_after_the_mark(memory) == SYNCS - 1
    assert len(model.broken) > 0


@pytest.mark.figures(faults=1)
def test_a_record_before_its_objects_breaks_a_promise(memory):
    model = publish(memory, "record-first")
    assert any("came after its record" in said for said in model.broken)


@pytest.mark.figures(kills=1)
@pytest.mark.parametrize("number", range(1, SYNCS + 1))
def test_the_next_publisher_makes_durable_what_a_killed_one_left_unsynced(memory, number):
    """Killed before its n-th fsync; whoever finds its objects or record must sync their names."""
    lay_out(memory)
    plain = mutant("none")
    done = run_traced(memory, plain, "-e", TRACE, log="whole")
    assert done.returncode == 0, done.stderr
    before = (memory / "whole").read_text().partition(publisher.BEGIN)[0].count("fsync(")
    fault = f"inject=fsync:signal=KILL:when={before + number}"

    folder = memory / "killed"
    lay_out(folder)
    killed = run_traced(folder, plain, "-e", TRACE, "-e", fault, log="first")
    assert killed.returncode == -9, killed.stderr
    again = run_traced(folder, plain, "-e", TRACE, log="second")
    assert (again.returncode, again.stdout) == (0, "acknowledged\n"), again.stderr
    logs = (folder / "first").read_text() + (folder / "second").read_text()
    assert replay(logs, folder, end=publisher.END).broken == []
