"""Which colour, dash and short name each method has, the same for every pair."""

import html
from collections.abc import Sequence

from paraknow_core.report.page.data import Method
from paraknow_core.report.page.text import short

COLOURS = 10
"""Colours of the style sheet: ``--m0`` to ``--m9``, told apart by colour-blind people too."""


class Look:
    """How methods are drawn; a method that is not declared gets the next colour."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self._methods = {method.name: method for method in methods}
        self._places = {method.name: place for place, method in enumerate(methods)}

    def place(self, name: str) -> int:
        """The method's place in the list of methods."""
        return self._places.setdefault(name, len(self._places))

    def style(self, name: str) -> str:
        """CSS classes: colour and dash."""
        dashed = " dashed" if self.is_control(name) else ""
        return f"m{self.place(name) % COLOURS}{dashed}"

    def colour(self, name: str) -> str:
        """The CSS variable of its colour."""
        return f"--m{self.place(name) % COLOURS}"

    def is_control(self, name: str) -> bool:
        """Whether it is declared as a control."""
        return name in self._methods and self._methods[name].kind == "control"

    def dash(self, name: str) -> str:
        """Plotly's name of its dash."""
        return "dot" if self.is_control(name) else "solid"


def plotly_text(text: str, size: int = 60) -> str:
    """A text that Plotly shows as it is: it takes tags and ``%{…}`` for its own language."""
    return html.escape(short(text, size), quote=False).replace("%{", "%\u200b{")
