"""What was found in a file, remembered by this process until the file is another one.

A plan asks the same few files the same questions for each of a thousand steps.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
_KEPT: Final = 1024


def once_a_file(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Make ``read`` answer from memory while the file has the same size, times and inode.

    Args:
        read: of a file that is not changed in place, such as a step's output. What it returns is
            handed out again, so it must be something small that nobody changes.
    """

    @functools.lru_cache(maxsize=_KEPT)
    def remembered(path: Path, _stamp: tuple[int, ...]) -> T:
        return read(path)

    @functools.wraps(read)
    def reading(path: Path) -> T:
        try:
            found = path.stat()
        except OSError:
            return read(path)  # which says what is wrong with it
        times = (found.st_mtime_ns, found.st_ctime_ns)
        return remembered(path, (found.st_dev, found.st_ino, found.st_size, *times))

    return reading
