"""The publisher with files that count as large, so that threads flush them while they are hashed.

strace counts the calls of each thread. The first fsync of the main one is spent at once, and the
warm-up flushes nothing early, so that the first call that then fails is an early flush.
"""

import contextlib
import os
import sys
from pathlib import Path

from support import publisher

from artifacts.disk import streams

SIZE = 9 * 1024 * 1024  # three buffers


def main() -> int:
    """Publish as the small one does; files count as large once the first mark is passed."""
    with Path(sys.argv[1], "tmp", "spent").open("wb") as file, contextlib.suppress(OSError):
        os.fsync(file.fileno())
    access = os.access

    def marked(path: str, mode: int) -> bool:
        if path == publisher.BEGIN:
            streams.LARGE = streams._FLUSH_EVERY = 1024 * 1024
        return access(path, mode)

    os.access = marked
    return publisher.main()


if __name__ == "__main__":  # never where a test imports SIZE: the content is the module's
    publisher.CONTENT["moved.bin"] = b"m" * SIZE
    sys.exit(main())
