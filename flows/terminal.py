"""The one way to a terminal: nothing that is printed can move its cursor or pass for markup.

Names and values come from records, configurations and folders that others may have written. How
they are shown is said in ``paraknow_core.printable``.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.text import Text

from paraknow_core.printable import shown

if TYPE_CHECKING:
    from rich.markdown import Markdown


def say(text: str) -> None:
    """Print a text, or JSON, to standard output."""
    typer.echo(shown(text))


def warn(sentence: str) -> None:
    """Print what a user has to know, but what ends nothing, to standard error."""
    Terminal(stderr=True).print(sentence, style="yellow", soft_wrap=True)


class Terminal(Console):
    """A rich console to which no text is markup, and which shows every sign of it.

    Args:
        stderr: print to standard error.
        highlight: colour numbers and such.
    """

    def __init__(self, *, stderr: bool = False, highlight: bool = True) -> None:
        super().__init__(stderr=stderr, highlight=highlight, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a printed text, a table's cell or a title ready; rich calls it for each."""
        return super().render_str(shown(text), **options)


class _Warnings(logging.Handler):
    """Prints warnings to standard error as they come."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one."""
        Terminal(stderr=True).print(record.getMessage(), style="yellow", soft_wrap=True)


@contextlib.contextmanager
def store_warnings() -> Iterator[None]:
    """Show what the store warns of while the block runs; Prefect switches the usual way off."""
    handler, store = _Warnings(logging.WARNING), logging.getLogger("artifacts")
    store.addHandler(handler)
    try:
        yield
    finally:
        store.removeHandler(handler)


def markdown(text: str) -> "Markdown":
    """Return Markdown that this program wrote, for a ``Terminal`` to print."""
    from rich.markdown import Markdown

    return Markdown(shown(text))
