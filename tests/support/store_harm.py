"""What can happen to a store: a crash at a system call, and damage to a file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from artifacts.disk.digests import digest_bytes
from artifacts.names import Digest
from artifacts.records import FileEntry, tree_bytes


class Crash(BaseException):
    """The process is gone."""


def objects_of(data: bytes) -> dict[Digest, bytes]:
    """The two objects of a result whose one file holds ``data``."""
    tree = tree_bytes({"a": FileEntry(digest_bytes(data), len(data))})
    return {digest_bytes(data): data, digest_bytes(tree): tree}


@contextlib.contextmanager
def crash_at(name: str, number: int) -> Iterator[None]:
    """Die before the n-th such system call; what follows is then never done."""
    real, left = getattr(os, name), [number]

    def dying(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise Crash
        return real(*arguments, **named)

    setattr(os, name, dying)
    try:
        yield
    except Crash:
        pass
    finally:
        setattr(os, name, real)


def damage(path: Path, how: str, tick: int) -> None:
    """Flip a bit of a file, cut it, make it longer, or delete it.

    Args:
        path: of the file.
        how: "flip", "cut", "longer" or "gone".
        tick: the file's new time, another one for each damage: within one tick of the disk's clock
            a change of the same size would not show in the file's stamp.
    """
    path.chmod(0o644)
    good = path.read_bytes()
    if how == "gone":
        path.unlink()
        return
    flipped = bytes([good[0] ^ 1]) + good[1:] if good else b"?"
    bad = {"cut": good[: len(good) // 2], "longer": good + b"?", "flip": flipped}[how]
    path.write_bytes(bad if bad != good else flipped)
    os.utime(path, ns=(tick, tick))
