"""One lookup in a process of its own, between two marks that strace can see.

Run as ``python -S reader.py STORE WARM_UP_STORE``; prints ``hit``, ``miss`` or the error.
"""

import os
import sys
from pathlib import Path

from support import publisher

from artifacts.errors import StoreError
from artifacts.store import Store


def read(root: Path) -> str:
    """Look up and read every byte of the result."""
    store = Store.open(root)
    record = store.lookup(publisher.PAYLOAD.key())
    return "miss" if record is None else "hit"


def main() -> int:
    """0 and ``hit`` or ``miss``, 3 with the error's name if it was refused."""
    root, warm_up = (Path(argument) for argument in sys.argv[1:3])
    read(warm_up)
    os.access(publisher.BEGIN, os.F_OK)
    try:
        said, status = read(root), 0
    except StoreError as error:
        said, status = f"{type(error).__name__}: {error}", 3
    os.access(publisher.END, os.F_OK)
    sys.stdout.write(said + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
