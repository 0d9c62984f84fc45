"""Read everything in a store again and say what is wrong with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artifacts.care.trash import Trash, record_in
from artifacts.disk.digests import BytesProgress, no_bytes_progress
from artifacts.disk.files import reading, temporary_path, writing
from artifacts.names import Digest, StepKey, is_hex_digest
from artifacts.store import Store


@dataclass(frozen=True)
class StoreProblem:
    """One thing that is wrong in a store.

    Attributes:
        kind: "object", "record", "missing", or "stray" for a file that is none of the store's.
        name: the digest, key or path it is about.
        detail: what is wrong.
        advice: what to do about it.
    """

    kind: str
    name: str
    detail: str
    advice: str


def verify(store: Store, *, progress: BytesProgress = no_bytes_progress) -> list[StoreProblem]:
    """Hash every object anew and check every record; quarantine what is corrupt.

    In a store that was opened read-only nothing is moved.

    Args:
        store: to check.
        progress: called as ``progress(objects done, objects total, digest)``.

    Returns:
        What is wrong, empty if nothing is.

    Raises:
        StoreIOError: if something could not be read.
    """
    problems = _bad_objects(store, progress)
    for key in store.ledger.all_keys():
        problems += _bad_record(store, key)
    return problems + _strays(store)


def repair(store: Store, problems: list[StoreProblem]) -> list[str]:
    """Take away what ``verify`` found broken, so that the store is sound and a re-run heals.

    Corrupt objects and records are in quarantine already. A result that lost an object, or whose
    record is damaged, follows them with all its generations. One that healed meanwhile stays.
    So do files that are none of the store's. Views of what is gone are derived, and go with it.

    Args:
        store: open for writing.
        problems: that ``verify`` returned.

    Returns:
        What was done, a line each.

    Raises:
        StoreReadOnlyError: if the store cannot be written to.
        StoreIOError: if something could not be read or put back.
    """
    store.check_writable()
    trash, done = Trash(store), []
    for problem in problems:
        if problem.kind == "object":
            done.append(f"object {problem.name}: quarantined")
            continue
        if problem.kind == "stray":
            done += _put_aside(store, Path(problem.name))
            continue
        key = StepKey(problem.name)
        count = store.ledger.generations(key)
        if store.lookup(key) is not None:
            done.append(f"result {key}: it has healed meanwhile")
        elif trash.put_record(key, count):
            trash.quarantine_record(key, count)
            done.append(f"result {key}: removed; its step will run again")
    return done


def _bad_objects(store: Store, progress: BytesProgress) -> list[StoreProblem]:
    digests = store.objects.digests()
    problems = []
    for done, digest in enumerate(digests, start=1):
        if not store.objects.is_intact(digest, None, again=True):
            where = "left in place (read-only)" if store.read_only else "moved to quarantine"
            detail = f"its bytes do not have its digest; {where}"
            advice = "run the steps whose records are listed as missing it"
            problems.append(StoreProblem("object", digest, detail, advice))
        progress(done, len(digests), digest)
    return problems


def _bad_record(store: Store, key: StepKey) -> list[StoreProblem]:
    record = store.lookup_record(key)
    if record is None:
        detail = f"the record at {store.ledger.path(key)} is damaged"
        return [
            StoreProblem("record", key, detail, "run its step again: it will be a miss and heal")
        ]
    missing = [d for d, size in record.objects().items() if not store.objects.is_intact(d, size)]
    if not missing:
        return []
    names = [name for name, entry in record.files.items() if entry.digest in missing]
    detail = f"{record.step} has lost {', '.join(sorted(names)) or 'its list of files'}"
    return [StoreProblem("missing", key, detail, "run its step again: it will be a miss and heal")]


def _strays(store: Store) -> list[StoreProblem]:
    """Find what lies among objects and records and is neither; nobody would ever look at it."""
    detail = "is no file of the store: left there by hand, or by another program"
    advice = "take it away, or let `paraknow store verify --repair` move it to quarantine"
    found = [
        *(path for path in _within(store.root / "objects") if not _is_object(store, path)),
        *(path for path in _within(store.root / "records") if not _is_record(store, path)),
    ]
    return [StoreProblem("stray", str(path), detail, advice) for path in found]


def _within(folder: Path) -> Iterator[Path]:
    with reading(folder):
        for shard in sorted(folder.iterdir()):
            if len(shard.name) != 2 or not shard.is_dir() or shard.is_symlink():
                yield shard
            else:
                yield from sorted(shard.iterdir())


def _is_object(store: Store, path: Path) -> bool:
    return is_hex_digest(path.name) and path == store.objects.path(Digest(path.name))


def _is_record(store: Store, path: Path) -> bool:
    """Tell whether a path is a generation of its key that a lookup can come to."""
    key = record_in(path)
    if key is None:
        return False
    return any(path == store.ledger.path(key, n) for n in range(store.ledger.generations(key)))


def _put_aside(store: Store, path: Path) -> list[str]:
    target = temporary_path(store.root / "quarantine").with_suffix(f".{path.name}")
    with writing(store.root):
        try:
            path.rename(target)
        except FileNotFoundError:
            return []
    return [f"stray {path}: moved to {target}"]
