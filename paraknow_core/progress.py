"""How long work tells where it stands: a callable, so the core knows no terminal and no UI."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as ``progress(done, total, message)``; ``done`` counts finished units."""


def no_progress(done: int, total: int, message: str) -> None:
    """Ignore the report; the default where nobody watches."""
