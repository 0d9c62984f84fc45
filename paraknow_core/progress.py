"""How computations report progress: to a callable, so the core depends on no terminal or UI."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, message)``; ``done`` counts finished units."""


def no_progress(done: int, total: int, message: str) -> None:
    """Ignore the report; the default."""
