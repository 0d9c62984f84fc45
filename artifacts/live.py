"""What this process uses: until it is through with it, no collection takes it away.

Inside ``keeping`` every key that is looked up or published is first written down in a file of this
process, ``pins/live/<random>``, one line each. The file is held with an ``flock`` that the kernel
drops with the process, however that ends. A collection takes nothing that such a file names.

Between a collection's look at these files and its last rename no line may be added, or it would
remove what a run has just found to be there. So both hold ``leases/taking.lock`` for that moment: a
run shared, for one write; a collection alone, for a batch of renames. Where locks fail, as over
some networks, the trash still gives back what is needed; a run may then see it gone for a moment.
"""

import contextlib
import fcntl
import logging
import os
import platform
import re
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from artifacts.canonical import canonical_bytes
from artifacts.disk.files import open_regular, reading, temporary_path, write_all
from artifacts.errors import StoreBusyError
from artifacts.names import StepKey

OTHER_HOST_SECONDS: Final = 7 * 86400.0
_LIMIT: Final = 64 * 1024 * 1024
_PATIENCE: Final = 60.0
_KEY: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_log = logging.getLogger(__name__)


class _LivePin:
    """This process's file in one store.

    Args:
        root: the store's folder.

    Raises:
        OSError: if it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._written: set[str] = set()
        folder = root / "pins" / "live"
        folder.mkdir(parents=True, exist_ok=True)
        draft = temporary_path(root / "tmp")
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(draft, flags, 0o644)
        try:
            # Locked before it has its name, so that no collection can see it without its lock.
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fchmod(self._file, 0o644)  # in a shared store others collect, whatever our umask
            write_all(self._file, canonical_bytes({"format": 2, "kernel": kernel()}))
            self._path = folder / draft.name
            draft.rename(self._path)
        except OSError:
            os.close(self._file)
            draft.unlink(missing_ok=True)
            raise

    def add(self, keys: Iterable[str]) -> None:
        new = sorted(set(keys) - self._written)
        if new:
            with _locked(self._root, fcntl.LOCK_SH):
                # The line break comes first: what a full disk cut off does not spoil this line.
                write_all(self._file, "".join(f"\n{key}" for key in new).encode())
            self._written.update(new)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._file)


class _Process:
    """How many are inside ``keeping`` in this process, and its files."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.pins: dict[Path, _LivePin | None] = {}

    def enter(self) -> None:
        with self.lock:
            self.depth += 1

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if self.depth == 0:
                for live in self.pins.values():
                    if live is not None:
                        live.close()
                self.pins.clear()

    def forget(self) -> None:
        """In a forked child: the files are its parent's, which it keeps locked along with it."""
        self.__init__()  # type: ignore[misc]


_process = _Process()
os.register_at_fork(after_in_child=_process.forget)


@contextlib.contextmanager
def keeping() -> Iterator[None]:
    """Keep, in every collection, what this process looks up or publishes while the body runs.

    What these results were made from is kept as well. May be nested and used by several threads:
    all is kept until the last one is through. Read-only stores cannot be written to and keep
    nothing.
    """
    _process.enter()
    try:
        yield
    finally:
        _process.leave()


def mark(root: Path, keys: Iterable[str]) -> None:
    """Note, inside ``keeping``, that keys are used; do so *before* they are looked up.

    What was collected before is then a clean miss, and what was not stays. A failure is only
    logged, as the run can do without.
    """
    with _process.lock:
        if not _process.depth:
            return
        try:
            if root not in _process.pins:
                _process.pins[root] = None
                _process.pins[root] = _LivePin(root)
            live = _process.pins[root]
            if live is not None:
                live.add(keys)
        except OSError as error:
            _log.warning("cannot mark results as in use: %s; carrying on without", error)


@contextlib.contextmanager
def between_takes(root: Path) -> Iterator[bool]:
    """Inside ``keeping``, run the body while no collection takes anything away.

    Yields:
        Whether anything is kept at all.
    """
    if _process.pins.get(root) is None:
        yield False
        return
    with _locked(root, fcntl.LOCK_SH):
        yield True


@contextlib.contextmanager
def taking(root: Path) -> Iterator[None]:
    """Let no process note anything while the body reads what is in use and takes the rest away.

    Raises:
        StoreBusyError: if another process stands still within its own short moment.
    """
    with _locked(root, fcntl.LOCK_EX) as free:
        if not free:
            raise StoreBusyError(
                f"a run in {root} has been noting what it uses for {_PATIENCE:.0f} seconds; it may "
                "be stopped. Let it go on or end it, then collect again"
            )
        yield


@contextlib.contextmanager
def _locked(root: Path, how: int) -> Iterator[bool]:
    """Hold the lock while the body runs; yields False if it stayed another's for too long."""
    try:
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
        file = os.open(root / "leases" / "taking.lock", flags, 0o666)
        with contextlib.suppress(PermissionError):
            os.fchmod(file, 0o666)  # one that a user with a narrow umask made is of use to all
    except OSError as error:
        _log.warning("no lock in %s (%s); carrying on without", root / "leases", error)
        yield True
        return
    try:
        yield _acquire(file, how)
    finally:
        os.close(file)


def _acquire(file: int, how: int) -> bool:
    end, pause = time.monotonic() + _PATIENCE, 0.0005
    while True:
        try:
            fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        except OSError as error:
            _log.warning("no file locks here (%s); carrying on without", error)
            return True
        else:
            return True


def read_live(root: Path, now: float) -> tuple[set[StepKey], list[Path]]:
    """Return the keys that live processes use, and the files of those that are over.

    Args:
        root: the store's folder.
        now: seconds since the epoch by the store's own clock.

    Raises:
        StoreIOError: if a file cannot be read.
    """
    live: set[StepKey] = set()
    dead: list[Path] = []
    folder = root / "pins" / "live"
    with reading(folder):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            try:
                alive, data = _look_at(path, now)
            except FileNotFoundError:
                continue  # its run ended this moment
            if alive:
                live.update(StepKey(key.decode()) for key in _KEY.findall(data))
            else:
                dead.append(path)
    return live, dead


def _look_at(path: Path, now: float) -> tuple[bool, bytes]:
    """Tell whether the process behind a file lives, and return the file's bytes."""
    descriptor = open_regular(path)
    if descriptor is None:
        return False, b""
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(_LIMIT)
        here = f'"kernel":"{kernel()}"'.encode() in data
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True, data
        except OSError:
            here = False  # no locks on this file system: only its age shows whether it is in use
        return not here and now - os.fstat(descriptor).st_mtime < OTHER_HOST_SECONDS, data


def kernel() -> str:
    """Name the running kernel: within one, an flock is exact.

    A time of boot (psutil's) would not do: it moves with the clock, and two machines may share it.
    """
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return platform.node()
