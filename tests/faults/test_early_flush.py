"""A large file's early flush fails; the system tells of a lost write only once, and never again."""

from pathlib import Path

import pytest
from support import publisher
from support.large_publisher import SIZE
from support.strace import lay_out, require_strace, run_traced

from artifacts.care.verify import verify
from artifacts.store import Store

pytestmark = [pytest.mark.faults, pytest.mark.figures(faults=1)]

SCRIPT = [str(Path(publisher.__file__).with_name("large_publisher.py")), "store", "outside", "warm"]
# A file that is moved is flushed while it is hashed; one that is copied, while it is copied.
CALLS = {"moved": "fsync", "copied": "fdatasync"}


def published(folder: Path, *trace: str) -> str:
    lay_out(folder)
    (folder / "outside").write_bytes(b"c" * SIZE)
    done = run_traced(folder, SCRIPT, "-e", "trace=access,fsync,fdatasync", *trace)
    assert done.returncode in (0, 3), done.stderr
    return done.stdout


@pytest.mark.parametrize("way", CALLS)
def test_a_flush_that_fails_early_refuses_the_publish(memory, way):
    require_strace()
    said = published(memory, "-e", f"inject={CALLS[way]}:error=EIO:when=1")
    assert said.startswith("StoreIOError: cannot write"), said
    lines = (memory / "trace").read_text().splitlines()
    main = lines[0].split()[0]
    assert any("(INJECTED)" in line and line.split()[0] != main for line in lines)
    store = Store.open(memory / "store")
    assert store.lookup(publisher.PAYLOAD.key()) is None
    assert verify(store) == []
    assert published(memory) == "acknowledged\n"
    record = Store.open(store.root).lookup(publisher.PAYLOAD.key())
    assert record.size == 2 * SIZE + 2
    assert verify(store) == []
