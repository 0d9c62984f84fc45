"""The shared tier as a store sees it: asked on a miss, and given what was published.

A store works without it. Where it does not answer, a lookup is a miss and a publish stays here;
``GuardedBackend`` says so once.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from artifacts.disk.files import writing
from artifacts.errors import RemoteError
from artifacts.ledger import Ledger
from artifacts.names import StepKey
from artifacts.objects import Objects
from artifacts.publishing import is_newer, publish
from artifacts.records import Record
from artifacts.remote.backends import open_backend
from artifacts.remote.bucket import Bucket, same_content
from artifacts.remote.guarded import GuardedBackend
from artifacts.remote.lease import held

REMOTE_VARIABLE: Final = "PARAKNOW_REMOTE"
_ATTEMPTS: Final = 3
_buckets: dict[str, Bucket] = {}
_lock = threading.Lock()
_log = logging.getLogger(__name__)


def remote_url(given: str = "") -> str:
    """Return the URL of the shared tier: as given, else ``$PARAKNOW_REMOTE``; "" for none."""
    url = given or os.environ.get(REMOTE_VARIABLE, "")
    return "" if url == "none" else url


def bucket_at(url: str) -> Bucket:
    """Return the bucket at a URL, one for all stores of this process: they share its troubles.

    Raises:
        RemoteError: if the URL is not understood, or what it needs is not installed.
    """
    with _lock:
        if url not in _buckets:
            _buckets[url] = Bucket(GuardedBackend(open_backend(url)))
        return _buckets[url]


class SharedTier:
    """What one store has to do with the bucket that it shares with others.

    Args:
        bucket: that is shared.
        root: the store's folder.
        objects: of the store.
        ledger: of the store.
    """

    def __init__(self, bucket: Bucket, root: Path, objects: Objects, ledger: Ledger) -> None:
        self.bucket = bucket
        self._root = root
        self._objects = objects
        self._ledger = ledger

    def record(self, key: StepKey) -> Record | None:
        """Return the record that the bucket has under a key; nothing else is asked for."""
        with contextlib.suppress(RemoteError):
            found = self.bucket.current(key)
            return found.record if found is not None else None
        return None

    def bring(self, key: StepKey) -> Record | None:
        """Bring a result here, if the bucket has it whole.

        Raises:
            StoreIOError: if it cannot be written here.
        """
        record = self.record(key)
        return self._adopt(record, None) if record is not None else None

    def earlier(self, ours: Record, replaces: Record | None) -> Record:
        """Return what is to be published here: the bucket's record if it has one, else ours.

        Args:
            ours: about to be published, its objects in the store.
            replaces: a record that does not count.
        """
        theirs = self.record(ours.key)
        if theirs is None or (replaces is not None and same_content(theirs, replaces)):
            return ours
        with contextlib.suppress(RemoteError):
            if self.bucket.fetch(theirs, self._objects):
                _log.info("%s %s: another machine was first", ours.step, ours.key[:12])
                return replace(theirs, generation=0)
        return ours

    def share(self, ours: Record, replaces: Record | None) -> Record:
        """Put a result that is published here into the bucket.

        Returns:
            The record that counts here from now on: another one if another machine was first.

        Raises:
            StoreIOError: if that one cannot be written here.
        """
        for _attempt in range(_ATTEMPTS):
            try:
                counts = self.bucket.publish(ours, self._objects, replaces)
            except RemoteError:
                return ours
            if same_content(counts, ours):
                return ours
            if (adopted := self._adopt(counts, ours)) is not None:
                return adopted
            # Its objects are damaged there: now known, they do not let it win a second time.
        return ours

    @contextlib.contextmanager
    def lease(
        self,
        key: StepKey,
        wait: float,
        on_wait: Callable[[float], None],
        replaces: Record | None,
    ) -> Iterator[None]:
        """Wait while another machine computes a key, at most until its record is there."""

        def waiting(seconds: float) -> bool:
            on_wait(seconds)
            theirs = self.record(key)
            return theirs is None or (replaces is not None and same_content(theirs, replaces))

        with held(self.bucket, key, wait=wait, waiting=waiting):
            yield

    def _adopt(self, theirs: Record, replaces: Record | None) -> Record | None:
        """Publish here what the bucket has; None if it cannot be had whole."""
        make = partial(self._fetched, theirs)
        with contextlib.suppress(RemoteError), writing(self._root):
            make()
            record = publish(self._objects, self._ledger, theirs.key, make, replaces)
            return record if replaces is None or is_newer(record, replaces) else None
        return None

    def _fetched(self, theirs: Record) -> Record:
        if not self.bucket.fetch(theirs, self._objects):
            where = self.bucket.backend.url
            raise RemoteError(f"{theirs.step} {theirs.key[:12]} is damaged in {where}")
        return replace(theirs, generation=0)
