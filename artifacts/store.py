"""The store: look up a step's result by its key, publish one, open its files.

docs/store.md describes the layout and the protocol.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from artifacts.canonical import Json
from artifacts.disk.files import writing
from artifacts.disk.locations import user_cache_folder
from artifacts.disk.stamps import StampCache
from artifacts.errors import StoreReadOnlyError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.layout import StoreInfo, open_layout
from artifacts.ledger import Ledger
from artifacts.live import between_takes, mark
from artifacts.names import Digest, StepKey
from artifacts.objects import Objects
from artifacts.publishing import (
    FileContent,
    has_objects,
    is_newer,
    publish,
    sources_of,
    store_files,
)
from artifacts.records import FileEntry, Record
from artifacts.remote.tier import SharedTier, bucket_at
from artifacts.room import check_room
from artifacts.views import ensure_view
from artifacts.work import held_lease, work_folder

_NO_LIMIT: Final = float("inf")


class Store:
    """A content-addressed store in one folder; open it with ``Store.open``.

    Attributes:
        root: its folder, links resolved.
        info: what its store.json says.
        read_only: True if this process promises not to write to it.
        objects: digest -> bytes.
        ledger: key -> record.
        stamps: digests of files hashed on this host, for ``digest_folder``.
        tier: what it shares with other machines' stores, None if nothing.
    """

    def __init__(self, root: Path, info: StoreInfo, *, read_only: bool, remote: str = "") -> None:
        self.root = root
        self.info = info
        self.read_only = read_only
        self.stamps = StampCache(root / "stat", root / "tmp", write=not read_only)
        self.objects = Objects(root, self.stamps, read_only=read_only)
        self.ledger = Ledger(root, read_only=read_only)
        self.tier: SharedTier | None = None
        if remote and not read_only:  # what is looked up there is to be written here
            self.tier = SharedTier(bucket_at(remote), root, self.objects, self.ledger)

    @classmethod
    def open(
        cls, root: Path, *, read_only: bool = False, shared: bool = False, remote: str = ""
    ) -> "Store":
        """Open the store at ``root``; unless ``read_only``, create it in a new or empty folder.

        Args:
            root: the store's folder.
            read_only: promise not to write to it.
            shared: open a new one to the group of its folder; otherwise it is private to its user.
            remote: URL of a tier that it shares with stores of other machines; "": none.

        Raises:
            StoreFormatError: if the folder is no store or of a newer format.
            StoreIOError: if it cannot be read or created.
            RemoteError: if ``remote`` is not understood; nothing is asked of it yet.
        """
        root = root.expanduser().resolve()
        if remote:
            bucket_at(remote)  # refuse a wrong one before anything is made
        info = open_layout(root, read_only=read_only, shared=shared)
        return cls(root, info, read_only=read_only, remote=remote)

    # -- reading

    def lookup(self, key: StepKey) -> Record | None:
        """Return the record of a key if all its objects are there and intact.

        Inside ``keeping`` no collection takes it away from now on. An object's full digest is
        checked at its first use on this host, later its stat stamp. A corrupt object or record is
        moved to quarantine, and the lookup is a miss. On a miss the shared tier is asked, and
        brings the result here.

        Raises:
            StoreIOError: if something could not be read; that is never taken for corruption.
            StoreFormatError: if the record was written by a newer version.
        """
        record = self.lookup_here(key)
        return self.tier.bring(key) if record is None and self.tier else record

    def lookup_here(self, key: StepKey) -> Record | None:
        """As ``lookup``, but without a question to the shared tier."""
        self._mark(key)
        record = self.lookup_record(key)
        if record is None or not has_objects(self.objects, record):
            return None
        self.ledger.touch(record)
        return record

    def record_elsewhere(self, key: StepKey) -> Record | None:
        """Return the shared tier's record of a key; its files are not brought here."""
        return self.tier.record(key) if self.tier else None

    def lookup_record(self, key: StepKey) -> Record | None:
        """Return the record of a key without a look at its objects.

        Raises:
            StoreIOError: if it could not be read.
        """
        found = self.ledger.current(key)
        return found.record if found is not None else None

    def records(self) -> Iterator[Record]:
        """Iterate over all records in key order, without a look at their objects."""
        for key in self.ledger.all_keys():
            if (record := self.lookup_record(key)) is not None:
                yield record

    def file_path(self, record: Record, name: str) -> Path:
        """Return the object that holds one file of a record, read-only; its name is the digest.

        Raises:
            UnknownKeyError: if the record has no such file.
        """
        entry = record.files.get(name)
        if entry is None:
            raise UnknownKeyError(
                f"{record.step} {record.key[:12]} has no file {name!r}; it has "
                f"{', '.join(sorted(record.files)) or 'none'}"
            )
        return self.objects.path(entry.digest)

    def tree_path(self, record: Record) -> Path:
        """Return a folder that shows a record's files under their names, as links; do not edit.

        In a read-only store whose view is not there, it is made in the user's cache folder.

        Raises:
            StoreIOError: if it cannot be made.
        """
        if not self.read_only:
            with contextlib.suppress(StoreReadOnlyError):
                return ensure_view(record, self.objects, self.root / "views", self.root / "tmp")
        base = user_cache_folder() / "views" / self.info.id
        with writing(base):
            (base / "tmp").mkdir(parents=True, exist_ok=True)
        return ensure_view(record, self.objects, base, base / "tmp")

    # -- writing

    def check_writable(self, need_bytes: int = 0) -> None:
        """Find out before a computation whether a result of ``need_bytes`` can be published.

        Raises:
            StoreReadOnlyError: if the store cannot be written to.
            StoreFullError: if less than ``need_bytes`` are free.
            StoreIOError: if writing fails in any other way.
        """
        if self.read_only:
            raise StoreReadOnlyError(
                f"the store {self.root} was opened read-only; open it writable to compute"
            )
        check_room(self.root, need_bytes)

    def publish(
        self,
        payload: KeyPayload,
        files: Path | Mapping[str, FileContent],
        *,
        facts: Mapping[str, Json] | None = None,
        provenance: Mapping[str, Json] | None = None,
        replaces: Record | None = None,
        expected: Mapping[str, FileEntry] | None = None,
    ) -> Record:
        """Publish a step's result; the first writer of a key wins, a later one gets its record.

        Complete when it returns: every byte is durable. Until its last action here nothing of it
        is visible, and whatever interrupts it, running the step again heals. Then the shared tier
        gets it; if another machine was first, its record counts.

        Args:
            payload: what the result's key is made of.
            files: a folder, all files of which are published, or name -> path or bytes. Files in
                a work folder of the store are moved, others copied; links are refused.
            facts: a few small values that are wanted without opening a file.
            provenance: how the result came about.
            replaces: publish although this record exists, as its next generation.
            expected: the digests that the files must have, if they are known.

        Returns:
            The record that counts from now on; downstream keys are to be made of *its* digests.

        Raises:
            StoreReadOnlyError: if the store cannot be written to.
            StoreFullError: if the disk or quota is full.
            StoreIOError: if reading or writing fails in any other way.
            NameRefusedError: for a file name that the store does not allow.
            CorruptObjectError: if a file is not the one expected.
            CanonicalError: if facts or provenance are not plain JSON.
        """
        if self.read_only:
            self.check_writable()
        sources = sources_of(files)
        draft = Record(
            key=payload.key(),
            payload=payload,
            tree=Digest("0" * 64),
            files=dict(expected or {}),
            facts=dict(facts or {}),
            provenance=dict(provenance or {}),
        )
        draft.check()
        self._mark(draft.key)

        def make() -> Record:
            record = store_files(self.objects, draft, sources)
            return self.tier.earlier(record, replaces) if self.tier else record

        with writing(self.root):
            record = publish(self.objects, self.ledger, draft.key, make, replaces)
            with between_takes(self.root) as kept:
                if kept:
                    # A collection that could not see our record yet may have moved an object
                    # that was there already: here it is taken back for good.
                    has_objects(self.objects, record)
        return self.tier.share(record, replaces) if self.tier else record

    def _mark(self, key: StepKey) -> None:
        """Note that this process uses a key, so that no collection takes it away."""
        if not self.read_only:
            mark(self.root, [key])

    # -- work

    def workdir(self, key: StepKey, *, adopt: bool) -> Path:
        """Make a folder for a step to work in, on the store's file system.

        Args:
            key: of the step.
            adopt: take over what an unfinished run of the same step left there; pass what
                ``lease`` yielded.

        Raises:
            StoreIOError: if it cannot be made.
        """
        with writing(self.root / "work"):
            return work_folder(self.root / "work", key, adopt=adopt)

    @contextlib.contextmanager
    def lease(
        self,
        key: StepKey,
        *,
        wait: float = _NO_LIMIT,
        on_wait: Callable[[float], None] = lambda _seconds: None,
        replaces: Record | None = None,
    ) -> Iterator[bool]:
        """Try to be the only one that computes a step; look the key up again once inside.

        Saves work and promises nothing: on any lock trouble it yields False, and the caller
        computes all the same, in a work folder of its own.

        Args:
            key: of the step.
            wait: seconds to wait for another process that computes it; the wait also ends when
                the record appears.
            on_wait: called about twice a second with the seconds waited so far.
            replaces: a record that is to be computed anew, so that it does not end the wait.

        Yields:
            Whether the lease is held.
        """

        def waiting(seconds: float) -> bool:
            on_wait(seconds)
            return not is_newer(self.lookup_record(key), replaces)

        path = self.root / "leases" / self.ledger.path(key).with_suffix(".lease").name
        with contextlib.ExitStack() as both:
            limit = 0 if self.read_only else wait
            held = both.enter_context(held_lease(path, wait=limit, waiting=waiting))
            if held and self.tier:
                # Whoever waits here for another machine still works alone on this one.
                both.enter_context(self.tier.lease(key, wait, on_wait, replaces))
            yield held
