"""Random sequences of store operations, crashes and damage, compared with two collections.

``last`` says which bytes each key stands for, ``whole`` which objects are intact; a key is a hit if
it has bytes and their objects are intact. Everything runs in one process, so only the drawn steps
decide what happens; the one clock that matters, that of the stamps, is set by hand.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.results import payload
from support.store_harm import crash_at, damage, objects_of

from artifacts.care.gc import Policy, collect
from artifacts.care.pins import pin, pins, unpin
from artifacts.care.verify import repair, verify
from artifacts.errors import UnknownKeyError
from artifacts.live import keeping
from artifacts.names import Digest
from artifacts.queries.find import find_record
from artifacts.records import Record
from artifacts.store import Store
from artifacts.transport import export, import_results

COUNT = 3
DAY = 86400.0
RANKS = st.integers(0, COUNT - 1)
# Few, so that keys share objects; one is empty, and one is the start of another.
CONTENTS = (b"", b"a", b"aa" * 40, b"other")
DATA = st.sampled_from(CONTENTS)
HOW = st.sampled_from(["flip", "cut", "longer", "gone"])
CALLS = st.sampled_from(["fsync", "link", "rename"])


class StoreModel(RuleBasedStateMachine):
    """``last``: rank -> bytes of its last generation, None if that is damaged; ``whole``: objects.

    Attributes:
        pinned: name -> rank.
        used: what a run looked up or made that is under way.
        exported: folder -> rank and bytes.
    """

    steps = 0  # of all machines of a run: how much was tried

    def __init__(self) -> None:
        super().__init__()
        shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.place = tempfile.TemporaryDirectory(dir=shared)
        self.folder = Path(self.place.name)
        self.store = Store.open(self.folder / "store")
        self.last: dict[int, bytes | None] = {}
        self.whole: set[Digest] = set()
        self.pinned: dict[str, int] = {}
        self.run = contextlib.ExitStack()
        self.running = False
        self.used: set[int] = set()
        self.exported: dict[Path, tuple[int, bytes]] = {}
        self.ticks = 0

    def teardown(self) -> None:
        self.run.close()
        self.place.cleanup()

    def hit(self, rank: int) -> bytes | None:
        """What a lookup must return."""
        data = self.last.get(rank)
        return data if data is not None and self.whole >= objects_of(data).keys() else None

    def use(self, rank: int) -> None:
        """Note a result that a run asks for: it is kept until the run ends, stored or not."""
        if self.running:
            self.used.add(rank)

    def stored(self, rank: int, data: bytes) -> None:
        self.last[rank] = data
        self.whole |= objects_of(data).keys()

    def content(self, record: Record) -> bytes:
        return self.store.file_path(record, "a").read_bytes()

    @initialize(contents=st.lists(DATA, min_size=COUNT, max_size=COUNT))
    def begin(self, contents: list[bytes]) -> None:
        """Begin with results: in an empty store most operations do nothing."""
        for rank, data in enumerate(contents):
            self.publish(rank, data)

    # -- operations

    @rule(rank=RANKS, data=DATA)
    def publish(self, rank: int, data: bytes) -> None:
        self.use(rank)
        if self.hit(rank) is None:
            self.stored(rank, data)
        assert self.content(self.store.publish(payload(rank), {"a": data})) == self.hit(rank)

    @rule(rank=RANKS, data=DATA)
    def replace(self, rank: int, data: bytes) -> None:
        self.use(rank)
        old = self.store.lookup(payload(rank).key())
        assert (old is not None) == (self.hit(rank) is not None)
        if old is not None:
            new = self.store.publish(payload(rank), {"a": data}, replaces=old)
            assert new.generation == old.generation + 1
            self.stored(rank, data)
            assert self.content(new) == data

    @rule(rank=RANKS)
    def lookup(self, rank: int) -> None:
        """With all that follows a miss: quarantine, a tombstone, an object out of the trash."""
        self.use(rank)
        found = self.store.lookup(payload(rank).key())
        assert (self.content(found) if found is not None else None) == self.hit(rank)

    @rule(rank=RANKS)
    def view(self, rank: int) -> None:
        self.use(rank)
        found = self.store.lookup(payload(rank).key())
        if found is not None:
            assert (self.store.tree_path(found) / "a").read_bytes() == self.hit(rank)

    @rule(rank=RANKS)
    def find(self, rank: int) -> None:
        self.use(rank)
        key = payload(rank).key()
        try:
            assert find_record(self.store, key[:12]).key == key
        except UnknownKeyError:
            assert self.last.get(rank) is None
        else:
            assert self.last.get(rank) is not None

    @rule(rank=RANKS, name=st.sampled_from(["one", "two"]))
    def pin(self, rank: int, name: str) -> None:
        if self.hit(rank) is not None:
            pin(self.store, name, payload(rank).key())
            self.pinned[name] = rank
        assert pins(self.store) == {n: payload(r).key() for n, r in self.pinned.items()}

    @rule(ranks=st.sets(RANKS))
    def a_run(self, ranks: set[int]) -> None:
        """One begins, and looks some results up; one that was under way has ended before."""
        self.run.close()
        self.used = set()
        self.run.enter_context(keeping())
        self.running = True
        for rank in ranks:
            self.lookup(rank)

    @precondition(lambda self: self.running)
    @rule()
    def the_run_ends(self) -> None:
        self.run.close()
        self.running, self.used = False, set()

    @precondition(lambda self: self.pinned)
    @rule()
    def unpin(self) -> None:
        name, rank = sorted(self.pinned.items())[0]
        assert unpin(self.store, name) == payload(rank).key()
        del self.pinned[name]

    @rule(old=st.sets(RANKS), size=st.sampled_from([None, 0]))
    def collect(self, old: set[int], size: int | None) -> None:
        """By age, after some results were made old, or everything that is not pinned."""
        self._make_old(old)
        collect(self.store, Policy(grace=0, older_than=DAY, max_bytes=size))
        before, broken = dict(self.last), [r for r in self.last if self.hit(r) is None]
        for rank in before.keys() - self.pinned.values() - self.used:
            if before[rank] is not None and (rank in old or size == 0):
                del self.last[rank]
        if size == 0:  # one that has lost its objects takes no room: it may stay
            self.last |= {r: before[r] for r in broken if self._recorded(r)}
        self._forget_unneeded()

    @rule()
    def verify(self) -> None:
        found = {kind: set[str]() for kind in ("object", "record", "missing")}
        for problem in verify(self.store):
            found[problem.kind].add(problem.name)
        lost = {r for r in self.last if self.hit(r) is None}
        damaged = {r for r in lost if self.last[r] is None}
        assert found["record"] == {payload(r).key() for r in damaged}
        assert found["missing"] == {payload(r).key() for r in lost - damaged}
        assert not found["object"] & self.whole

    @precondition(lambda self: any(self.hit(rank) is None for rank in self.last))
    @rule()
    def repair(self) -> None:
        repair(self.store, verify(self.store))
        self.last = {rank: data for rank, data in self.last.items() if self.hit(rank) is not None}
        assert verify(self.store) == []

    @rule(rank=RANKS)
    def export(self, rank: int) -> None:
        self.use(rank)
        record, data = self.store.lookup(payload(rank).key()), self.hit(rank)
        if record is not None and data is not None:
            target = self.folder / f"export-{len(self.exported)}"
            export(self.store, record, target)
            assert (target / "a").read_bytes() == data
            self.exported[target] = (rank, data)

    @precondition(lambda self: self.exported)
    @rule(number=st.integers(0, 100))
    def import_(self, number: int) -> None:
        source = sorted(self.exported)[number % len(self.exported)]
        rank, data = self.exported[source]
        self.use(rank)
        here = self.hit(rank)
        (taken,) = import_results(self.store, source)
        assert taken.how == ("new" if here is None else "present" if here == data else "kept")
        if here is None:
            self.stored(rank, data)
        assert self.content(taken.record) == self.hit(rank)

    # -- crashes and damage

    @rule(forget=st.booleans())
    def reopen(self, forget: bool) -> None:
        """A new process, perhaps on another host: nothing was hashed there yet."""
        if forget:
            for path in sorted((self.store.root / "stat").rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
        self.store = Store.open(self.store.root)

    @rule(rank=RANKS, tree=st.booleans(), how=HOW)
    def damage_an_object(self, rank: int, tree: bool, how: str) -> None:
        data = self.hit(rank)
        if data is not None:
            digest = list(objects_of(data))[tree]
            self._damage(self.store.objects.path(digest), how)
            self.whole.discard(digest)

    @rule(rank=RANKS, how=HOW.filter(lambda how: how != "gone"))
    def damage_a_record(self, rank: int, how: str) -> None:
        if self.last.get(rank) is not None:
            key = payload(rank).key()
            record = Store.open(self.store.root, read_only=True).lookup_record(key)
            self._damage(self.store.ledger.path(key, record.generation), how)
            self.last[rank] = None

    @rule(rank=RANKS, data=DATA, name=CALLS, number=st.integers(0, 9))
    def crash_in_a_publish(self, rank: int, data: bytes, name: str, number: int) -> None:
        self.use(rank)
        hits = {r: self.hit(r) for r in range(COUNT) if self.hit(r) is not None}
        before = self.last.get(rank)
        with crash_at(name, number):
            self.store.publish(payload(rank), {"a": data})
        self._come_back()
        if rank in hits:
            assert self.last[rank] == hits[rank]
        else:
            assert self.last.get(rank) in (before, data)
        assert hits.items() <= {r: self.hit(r) for r in range(COUNT)}.items()

    @rule(number=st.integers(0, 9))
    def crash_in_a_collection(self, number: int) -> None:
        stay = {*self.pinned.values(), *self.used}
        safe = {r: self.hit(r) for r in stay if self.hit(r) is not None}
        with crash_at("rename", number):
            collect(self.store, Policy(grace=0, max_bytes=0))
        self._come_back()
        assert safe.items() <= {r: self.hit(r) for r in range(COUNT)}.items()

    # -- after every step

    @invariant()
    def agrees(self) -> None:
        """By a reader that changes nothing, so that what is broken stays so for the next step."""
        StoreModel.steps += 1
        reader = Store.open(self.store.root, read_only=True)
        for rank in range(COUNT):
            found = reader.lookup(payload(rank).key())
            said = reader.file_path(found, "a").read_bytes() if found is not None else None
            assert said == self.hit(rank), (
                f"{said!r} is returned for {rank}, not {self.hit(rank)!r}"
            )

    # -- helpers

    def _recorded(self, rank: int) -> bool:
        return self.store.lookup_record(payload(rank).key()) is not None

    def _make_old(self, ranks: set[int]) -> None:
        for rank in ranks:
            record = self.store.lookup_record(payload(rank).key())
            if record is not None:
                path = self.store.ledger.path(record.key, record.generation)
                then = path.stat().st_mtime - 2 * DAY
                os.utime(path, (then, then))

    def _forget_unneeded(self) -> None:
        kept = [data for data in self.last.values() if data is not None]
        self.whole &= {digest for data in kept for digest in objects_of(data)}

    def _damage(self, path: Path, how: str) -> None:
        self.ticks += 1
        damage(path, how, self.ticks)

    def _come_back(self) -> None:
        """Start again after a crash, with a draft left over, and look which steps were taken."""
        (self.store.root / "tmp" / f"draft-{self.ticks}").write_bytes(b"half a fi")
        self.store = Store.open(self.store.root)
        for digest, data in (
            (d, b) for content in CONTENTS for d, b in objects_of(content).items()
        ):
            path = self.store.objects.path(digest)
            present = path.exists() and path.read_bytes() == data
            (self.whole.add if present else self.whole.discard)(digest)
        reader = Store.open(self.store.root, read_only=True)
        for rank in range(COUNT):
            record = reader.lookup_record(payload(rank).key())
            if record is not None:
                said = {content for content in CONTENTS if record.tree in objects_of(content)}
                (self.last[rank],) = said
            elif reader.ledger.generations(payload(rank).key()):
                self.last[rank] = None  # a damaged one is the last that is left
            else:
                self.last.pop(rank, None)
