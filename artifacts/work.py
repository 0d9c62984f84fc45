"""Partial results of steps that can resume, and leases that save two runs from the same work.

Neither carries correctness: publishing does. A lease can be lost while its holder is suspended,
and then two processes compute the same step; each has a work folder of its own, and the first to
publish wins.
"""

import contextlib
import logging
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from artifacts.errors import UnknownKeyError
from artifacts.names import StepKey, is_hex_digest

if TYPE_CHECKING:
    from filelock import SoftFileLease

_ASIDE: Final = ".aside"
_POLL_SECONDS: Final = 0.5
_log = logging.getLogger(__name__)


def work_folder(base: Path, key: StepKey, *, adopt: bool) -> Path:
    """Make a work folder of one's own for a step.

    Args:
        base: the store's folder of all work.
        key: of the step.
        adopt: take over what an earlier, unfinished run left (the most recent folder of it, but
            none that was moved aside); only right for the holder of the step's lease. The leftover
            is renamed, so that a holder thought dead finds its paths gone and fails, and does not
            write into its successor's folder.

    Returns:
        ``<base>/<key>/<random>/``, empty unless something was adopted.
    """
    if not is_hex_digest(key):
        raise UnknownKeyError(f"{key!r} is no step key (64 hexadecimal digits)")
    mine = base / key / secrets.token_hex(4)
    mine.parent.mkdir(parents=True, exist_ok=True)
    if adopt:
        for leftover in _newest_first(mine.parent):
            with contextlib.suppress(FileNotFoundError):
                return leftover.rename(mine)
    mine.mkdir()
    return mine


def aside_of(work: Path) -> Path:
    """Return where a run puts what it found in its work folder and cannot use.

    It is adopted by nobody, stays when the work folder is discarded, and is collected with
    abandoned work.
    """
    return work.with_name(f"{work.name}{_ASIDE}")


def is_aside(path: Path) -> bool:
    """Tell whether this is what ``aside_of`` gave for some work folder."""
    return path.suffix == _ASIDE


def discard(base: Path, work: Path) -> None:
    """Remove a folder that ``work_folder`` made, and its key's folder if nothing else is in it.

    Args:
        base: the store's folder of all work; what does not lie two levels below it is left alone.
        work: the folder.
    """
    if work.parent.parent != base:
        return
    shutil.rmtree(work, ignore_errors=True)
    with contextlib.suppress(OSError):
        work.parent.rmdir()


def _newest_first(folder: Path) -> list[Path]:
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode) and not is_aside(path):
                found.append((status.st_mtime_ns, path))
    return [path for _time, path in sorted(found, reverse=True)]


@contextlib.contextmanager
def held_lease(
    path: Path, *, wait: float, waiting: Callable[[float], bool], duration: float = 30.0
) -> Iterator[bool]:
    """Hold a lease if that is possible, and carry on without it if not.

    Args:
        path: of the lease file.
        wait: seconds to wait for another holder, at most.
        waiting: called about twice a second with the seconds waited so far while another process
            holds the lease; False ends the wait.
        duration: seconds without a sign of life after which a holder counts as dead; the same for
            all processes.

    Yields:
        Whether the lease is held.
    """
    lease = _acquire(path, wait, waiting, duration)
    try:
        yield lease is not None
    finally:
        if lease is not None:
            _release(lease)


def _acquire(
    path: Path, wait: float, waiting: Callable[[float], bool], duration: float
) -> "SoftFileLease | None":
    from filelock import SoftFileLease, Timeout

    start = time.monotonic()
    try:
        lease = SoftFileLease(path, lease_duration=duration, is_singleton=False)
        while True:
            try:
                lease.acquire(timeout=_POLL_SECONDS)
            except Timeout:
                waited = time.monotonic() - start
                if waited >= wait or not waiting(waited):
                    return None
            else:
                return lease
    except Exception as error:  # noqa: BLE001  any lock trouble costs only work done twice
        _log.warning("no lease on %s (%s); carrying on without", path, error)
        return None


def _release(lease: "SoftFileLease") -> None:
    try:
        lease.release()
    except Exception as error:  # noqa: BLE001  it expires by itself
        _log.warning("could not release %s: %s", lease.lock_file, error)
