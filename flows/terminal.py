"""The one way to a terminal: nothing that is printed can move its cursor or pass for markup.

Names and values come from records, configurations and folders that others may have written. What a
terminal would obey or hide (escape sequences, C1 controls, signs that turn the direction of
writing) is shown as JSON would write it, so that JSON stays JSON.
"""

import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from rich.markdown import Markdown

_SUSPECT: Final = re.compile(r"[^\x20-\x7e\n\t]")


def shown(text: str) -> str:
    """Return a text with every sign that does not show itself written out; line breaks stay."""
    return _SUSPECT.sub(lambda found: _showable(found[0]), text)


def one_line(text: str) -> str:
    """Return ``shown`` of a text that stands within a line: its line breaks are written out too."""
    return shown(text).replace("\n", "\\n").replace("\t", "\\t")


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


def _showable(sign: str) -> str:
    if sign.isprintable() or unicodedata.category(sign) == "Zs":
        return sign
    units = sign.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
