"""One publish in a process of its own, between two marks that strace can see.

Run as ``python -S publisher.py STORE OUTSIDE_FILE WARM_UP_STORE``. Everything is imported and used
once before the first mark, so that a fault between the marks hits the store and not the importer.
"""

import os
import sys
from pathlib import Path

from artifacts.errors import StoreError
from artifacts.keys import KeyPayload
from artifacts.store import Store

BEGIN, END = "/publish-begins", "/publish-ends"
PAYLOAD = KeyPayload(step="decompose", version=1, config={"rank": 4}, inputs={})
CONTENT = {"moved.bin": b"m" * 5000, "sub/copied.bin": b"c" * 5000, "small.json": b"{}"}


def sources(store: Store, outside: Path) -> dict[str, Path | bytes]:
    """Lay out a file to be moved, one to be copied, and one given as bytes."""
    work = store.workdir(PAYLOAD.key(), adopt=False)
    (work / "moved.bin").write_bytes(CONTENT["moved.bin"])
    return {
        "moved.bin": work / "moved.bin",
        "sub/copied.bin": outside,
        "small.json": CONTENT["small.json"],
    }


def publish(root: Path, files: dict[str, Path | bytes]) -> None:
    """Open the store, publish, read back, and make the view."""
    store = Store.open(root)
    store.check_writable()
    record = store.publish(PAYLOAD, files, provenance={"host": "here"})
    if store.lookup(PAYLOAD.key()) == record:
        store.tree_path(record)


def main() -> int:
    """Publish once; 0 if it was acknowledged, 3 with the error's name if it was refused."""
    root, outside, warm_up = (Path(argument) for argument in sys.argv[1:4])
    publish(warm_up, sources(Store.open(warm_up), outside))
    files = sources(Store.open(root), outside)
    os.access(BEGIN, os.F_OK)
    try:
        publish(root, files)
    except StoreError as error:
        os.access(END, os.F_OK)
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
        return 3
    os.access(END, os.F_OK)
    sys.stdout.write("acknowledged\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
