"""The one way to a terminal: nothing that is printed can move its cursor or pass for markup.

Names and values come from records, configurations and folders that others may have written. How
they are shown is said in ``paraknow_core.printable``.
"""

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


def markdown(text: str) -> "Markdown":
    """Return Markdown that this program wrote, for a ``Terminal`` to print."""
    from rich.markdown import Markdown

    return Markdown(shown(text))
