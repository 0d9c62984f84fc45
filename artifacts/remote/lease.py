"""Single flight across machines: who computes a key now, as a file in the backend that expires.

It saves work and promises nothing, as the leases of a store do. A lease is
``leases/<key>/<number>``; whoever puts the next number holds it, and nobody may do so while the
last one is fresh by the server's clock. Its holder puts it again, which makes it fresh, as long as
it computes.
"""

import contextlib
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from artifacts.errors import RemoteError
from artifacts.names import StepKey
from artifacts.remote.bucket import Bucket

LEASES: Final = "leases/"
SECONDS: Final = 90.0
"""After which a holder that gave no sign of life counts as dead; the same on all machines."""
_POLL_SECONDS: Final = 2.0
_log = logging.getLogger(__name__)


def take(bucket: Bucket, key: StepKey) -> str | None:
    """Try to take the lease of a key.

    Returns:
        Its name in the backend, None if another machine holds it.

    Raises:
        RemoteError: if the backend does not answer.
    """
    folder = f"{LEASES}{key}/"
    held = sorted(bucket.backend.list(folder), key=lambda entry: entry.name)
    if held:
        if bucket.capabilities.clock.now() - held[-1].modified < SECONDS:
            return None
        _log.warning("the lease of %s in %s ran out; taken over", key[:12], bucket.backend.url)
    number = int(held[-1].name.rpartition("/")[2]) + 1 if held else 0
    name = f"{folder}{number:08d}"
    return name if bucket.backend.put_if_absent(name, _holder()) else None


def release(bucket: Bucket, name: str) -> None:
    """Give a lease back: it goes last, so that none before it seems to be held in between."""
    folder = name.rpartition("/")[0] + "/"
    for entry in sorted(bucket.backend.list(folder), key=lambda entry: entry.name):
        if entry.name <= name:
            bucket.backend.delete(entry.name)


@contextlib.contextmanager
def held(
    bucket: Bucket,
    key: StepKey,
    *,
    wait: float,
    waiting: Callable[[float], bool],
) -> Iterator[bool]:
    """Hold the lease of a key while the block runs, if that is possible; carry on if not.

    Args:
        bucket: where it lies.
        key: of the step.
        wait: seconds to wait for another machine, at most.
        waiting: called with the seconds waited so far; False ends the wait.

    Yields:
        Whether it is held.
    """
    name = _wait(bucket, key, wait, waiting)
    if name is None:
        yield False
        return
    over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(bucket, name, over), daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        over.set()
        renewing.join()
        with contextlib.suppress(RemoteError):  # it runs out by itself
            release(bucket, name)


def _wait(
    bucket: Bucket, key: StepKey, wait: float, waiting: Callable[[float], bool]
) -> str | None:
    start = time.monotonic()
    try:
        while (name := take(bucket, key)) is None:
            waited = time.monotonic() - start
            if waited >= wait or not waiting(waited):
                return None
            time.sleep(_POLL_SECONDS)
    except RemoteError:
        return None  # computing twice is no harm
    return name


def _renew(bucket: Bucket, name: str, over: threading.Event) -> None:
    while not over.wait(SECONDS / 3):
        with contextlib.suppress(RemoteError):
            bucket.backend.put(name, _holder())


def _holder() -> bytes:
    """Say who holds it, for whoever looks into the bucket."""
    return json.dumps({"host": platform.node(), "process": os.getpid()}).encode()
