"""What the store costs: publishing a large file, finding a result among many, listing them all.

    python -m benchmarks.store_speed --folder DIR        # about five minutes, 8 GB, removed after
    python -m benchmarks.store_speed --folder DIR --quick

Both sides of a ratio are measured in one run, on one disk, alternately: publishing against writing
the same bytes plainly with fsync, a lookup against one ``stat`` of each file that it depends on.
Listings are whole commands, each a process of its own, without an index of the records and with
one; their seconds on the CPU stand next to those by the clock, which other programs lengthen.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from artifacts.canonical import Json
from artifacts.disk.digests import digest_bytes
from artifacts.keys import KeyPayload
from artifacts.names import Digest, StepKey
from artifacts.records import FileEntry, Record, tree_bytes
from artifacts.store import Store
from tasks.engine.step_names import MODEL_STEP

MIB = 1024 * 1024
PUBLISH_GOAL, LOOKUP_GOAL_MS, LISTING_GOAL = 1.5, 5.0, 5.0


def payload(name: str, number: int, inputs: dict[str, Digest] | None = None) -> KeyPayload:
    return KeyPayload(step=name, version=1, config={"number": number}, inputs=inputs or {})


def safetensors_pieces(size: int) -> Iterator[bytes]:
    """One float32 tensor of random bytes as a safetensors file, piece by piece."""
    count = size // 4
    entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
    header = json.dumps({"weight": entry}).encode()
    header += b" " * (-len(header) % 8)
    yield len(header).to_bytes(8, "little") + header
    piece = os.urandom(16 * MIB)
    for start in range(0, 4 * count, len(piece)):
        # Each piece differs, so that no file system can store it once for all.
        yield start.to_bytes(8, "little") + piece[8 : 4 * count - start]


def write(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for piece in safetensors_pieces(size):
            file.write(piece)


def write_plainly(path: Path, size: int) -> None:
    write(path, size)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def write_and_publish(store: Store, size: int, number: int) -> None:
    """What a step does: it writes into its work folder, and the store takes the file over."""
    key_payload = payload("written", number)
    work = store.workdir(key_payload.key(), adopt=False)
    write(work / "weights.safetensors", size)
    store.publish(key_payload, work)


def seconds(call: Callable[[], object]) -> float:
    os.sync()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def publishing(folder: Path, size: int, rounds: int) -> bool:
    """Time the three ways in turns; every file is removed before the next is written."""
    took: dict[str, list[float]] = {"plain": [], "written by a step": [], "copied from outside": []}
    outside = folder / "outside.safetensors"
    write(outside, size)
    for number in range(rounds):
        took["plain"].append(seconds(lambda: write_plainly(folder / "plain", size)))
        (folder / "plain").unlink()
        store = Store.open(folder / f"store-{number}")
        took["written by a step"].append(seconds(lambda: write_and_publish(store, size, number)))  # noqa: B023
        shutil.rmtree(store.root)
        store = Store.open(folder / f"store-{number}")
        sources = {"weights.safetensors": outside}
        took["copied from outside"].append(
            seconds(lambda: store.publish(payload("copied", number), sources))  # noqa: B023
        )
        shutil.rmtree(store.root)
    outside.unlink()
    plain = statistics.median(took["plain"])
    print(f"{size / 1e9:.2f} GB written plainly with fsync: {plain:.2f} s (median of {rounds})")
    met = True
    for name in ("written by a step", "copied from outside"):
        ratio = statistics.median(took[name]) / plain
        met &= ratio <= PUBLISH_GOAL
        print(f"  publish, {name}: {statistics.median(took[name]):.2f} s, {ratio:.2f} × plain")
    return met


CHAIN = 10
"""Of so many results in a row each is made from the one before it, and the first is a model."""


def fill(store: Store, count: int) -> list[StepKey]:
    """Lay ``count`` records with an own file each into a store, in format 1 but without syncs."""
    keys: list[StepKey] = []
    above: dict[str, Json] = {}
    for number in range(count):
        inputs = {} if number % CHAIN == 0 else {"source": Digest(str(above["digest"]))}
        step = "looked-up" if inputs else MODEL_STEP
        key_payload, data = payload(step, number, inputs), b"%d" % number
        files = {"a.bin": FileEntry(digest_bytes(data), len(data))}
        tree = digest_bytes(tree_bytes(files))
        record = Record(
            key=key_payload.key(),
            payload=key_payload,
            tree=tree,
            files=files,
            facts={},
            provenance={
                "host": "here",
                "versions": {"torch": "2.11", "blake3": "1.0"},
                "inputs": {"source": above} if inputs else {},
                "finished": "2026-01-02T03:04:05+00:00",
                "seconds": 1.5,
            },
        )
        above = {"step": step, "key": record.key, "digest": tree}
        for path, content in (
            (store.objects.path(files["a.bin"].digest), data),
            (store.objects.path(tree), tree_bytes(files)),
            (store.ledger.path(record.key), record.encode()),
        ):
            path.write_bytes(content)
            path.chmod(0o444)
        keys.append(record.key)
    return keys


def lookups(folder: Path, count: int, sample: int) -> bool:
    store = Store.open(folder / "many")
    keys = fill(store, count)[:: max(1, count // sample)][:sample]
    first = _each(keys, lambda key: Store.lookup(store, key))
    later = Store.open(store.root)  # nothing in memory, as in a new process
    again = _each(keys, lambda key: Store.lookup(later, key))
    paths = {key: _files_of(store, key) for key in keys}
    stats = _each(keys, lambda key: [os.lstat(path) for path in paths[key]])
    print(f"lookup of a hit among {count:,} records, median and 95th percentile of {len(keys)}:")
    stat_ms = statistics.median(stats.wall) * 1e3
    for name, took in (("first on this host", first), ("later", again)):
        ratio = statistics.median(took.wall) * 1e3 / stat_ms
        # The rest is waiting: for the disk, or for a CPU that other programs use.
        print(
            f"  {name}: {_both(took.wall)}, of it computing {_both(took.cpu)}; {ratio:.0f} × stat"
        )
    print(f"  a stat of the same {len(paths[keys[0]])} files: {stat_ms:.4f} ms")
    return statistics.median(again.wall) * 1e3 < LOOKUP_GOAL_MS


def listings(folder: Path) -> bool:
    """Time the commands that look at every result of the store that ``lookups`` filled."""
    met = True
    for command in ("ls", "du", "gc"):
        cache = folder / f"cache-{command}"  # so that each command finds no index at first
        # Of several the fastest: what is added to it is other programs' doing.
        cold, *warm = (_command(folder / "many", command, cache) for _ in range(4))
        best = min(warm)
        met &= best[0] <= LISTING_GOAL
        print(
            f"  store {command}: {best[0]:.1f} s, on the CPU {best[1]:.1f} s; "
            f"without an index {cold[0]:.1f} and {cold[1]:.1f} s"
        )
    return met


def _command(root: Path, command: str, cache: Path) -> tuple[float, float]:
    """Return the seconds that ``paraknow store`` takes, by the clock and on the CPU."""
    called = "import sys; from flows.cli.main import main; sys.argv[0] = 'paraknow'; main()"
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", called, "store", command, "--store", str(root)],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _both(took: list[float]) -> str:
    tail = sorted(took)[len(took) * 19 // 20]
    return f"{statistics.median(took) * 1e3:.2f} and {tail * 1e3:.2f} ms"


def _files_of(store: Store, key: StepKey) -> list[Path]:
    record = store.lookup_record(key)
    assert record is not None
    return [store.ledger.path(key), *(store.objects.path(d) for d in record.objects())]


class Took(NamedTuple):
    """Seconds of each call, by the clock and on the CPU."""

    wall: list[float]
    cpu: list[float]


def _each(keys: list[StepKey], call: Callable[[StepKey], object]) -> Took:
    took = Took([], [])
    for key in keys:
        wall, cpu = time.perf_counter(), time.process_time()
        if not call(key):
            raise SystemExit(f"{key} was a miss")
        took.wall.append(time.perf_counter() - wall)
        took.cpu.append(time.process_time() - cpu)
    return took


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--quick", action="store_true", help="small; its ratios say little")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    size, count = (64 * MIB, 1000) if options.quick else (2_000_000_000, 100_000)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        met = publishing(Path(folder), size, options.rounds)
        met &= lookups(Path(folder), count, 500)
        print(f"commands over {count:,} results, with an index of them:")
        met &= listings(Path(folder))
    goals = (
        f"publish ≤ {PUBLISH_GOAL} × plain, lookup < {LOOKUP_GOAL_MS:g} ms, "
        f"ls, du and gc ≤ {LISTING_GOAL:g} s"
    )
    print(f"{'met' if met else 'NOT met'}: {goals}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
