"""The publisher with one thing wrong, which must make a test fail.

Run as ``python -S mutants.py MUTATION STORE OUTSIDE_FILE WARM_UP_STORE``; MUTATION is ``none``,
``without-fsync-N`` (the N-th fsync after the first mark), ``without-file-fsyncs`` or
``record-first``.
"""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from support import publisher

from artifacts.disk.digests import digest_bytes
from artifacts.ledger import Ledger
from artifacts.objects import Objects
from artifacts.records import FileEntry, Record


def take_out_fsyncs(is_out: Callable[[int, int], bool]) -> None:
    """Patch ``os.fsync``; ``is_out(number, descriptor)`` counts from 1 after the first mark."""
    real, access, count = os.fsync, os.access, [-1]

    def marked(path: str, mode: int) -> bool:
        count[0] = 0 if path == publisher.BEGIN else -1
        return access(path, mode)

    def fsync(descriptor: int) -> None:
        count[0] += count[0] >= 0
        if count[0] <= 0 or not is_out(count[0], descriptor):
            real(descriptor)

    os.access, os.fsync = marked, fsync


def put_the_record_first() -> None:
    """Patch the store so that objects are stored only once their record is."""
    put_bytes, put_file, append = Objects.put_bytes, Objects.put_file, Ledger.append
    later: list[Callable[[], FileEntry]] = []

    def late_bytes(self: Objects, data: bytes) -> FileEntry:
        later.append(lambda: put_bytes(self, data))
        return FileEntry(digest_bytes(data), len(data))

    def late_file(self: Objects, source: Path) -> FileEntry:
        later.append(lambda: put_file(self, source))
        data = source.read_bytes()
        return FileEntry(digest_bytes(data), len(data))

    def append_first(self: Ledger, record: Record) -> bool:
        made = append(self, record)
        while later:
            later.pop()()
        return made

    Objects.put_bytes, Objects.put_file, Ledger.append = late_bytes, late_file, append_first


def mutate(name: str) -> None:
    """Patch the code of this process."""
    if name == "record-first":
        put_the_record_first()
    elif name == "without-file-fsyncs":
        take_out_fsyncs(lambda _number, fd: stat.S_ISREG(os.fstat(fd).st_mode))
    elif name.startswith("without-fsync-"):
        out = int(name.rpartition("-")[2])
        take_out_fsyncs(lambda number, _fd: number == out)
    elif name != "none":
        raise SystemExit(f"unknown mutation {name}")


if __name__ == "__main__":
    mutate(sys.argv.pop(1))
    sys.exit(publisher.main())
