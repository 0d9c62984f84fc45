"""Numbers of bytes in words, decimal as disks are sold."""

from typing import Final

from rich.filesize import decimal

_DIGITS: Final = range(1, 7)


def size_text(count: int) -> str:
    """Write a number of bytes in the unit that shows it, such as ``1.5 GB``."""
    return decimal(count)


def unequal(need: int, free: int) -> tuple[str, str]:
    """Write two different numbers of bytes so that they look different."""
    for digits in _DIGITS:
        first, second = decimal(need, precision=digits), decimal(free, precision=digits)
        if first != second:
            return first, second
    return f"{need:,} bytes", f"{free:,} bytes"
