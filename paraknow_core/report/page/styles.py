"""Which colour and dash each method has, the same for every pair."""

from collections.abc import Sequence

from paraknow_core.report.page.data import ShownMethod
from paraknow_core.report.page.palette import COLOURS

DASHES = {"": "solid", "dotted": (0, (1.2, 2.2)), "dashed": (0, (5, 2.5)), "dashdot": "dashdot"}
"""Names of the style sheet → what Matplotlib draws."""


class Look:
    """How methods are drawn; a method that is not declared gets the next colour."""

    def __init__(self, methods: Sequence[ShownMethod]) -> None:
        self._methods = {method.name: method for method in methods}
        self._places = {method.name: place for place, method in enumerate(methods)}

    def place(self, name: str) -> int:
        """The method's place in the list of methods."""
        return self._places.setdefault(name, len(self._places))

    def style(self, name: str) -> str:
        """CSS classes: colour and dash."""
        return f"{self.colour(name)} {self.dash(name)}".rstrip()

    def colour(self, name: str) -> str:
        """The name of its colour."""
        return f"m{self.place(name) % COLOURS}"

    def is_control(self, name: str) -> bool:
        """Whether it is declared as a control."""
        return name in self._methods and self._methods[name].kind == "control"

    def dash(self, name: str) -> str:
        """One of ``DASHES``: controls are dotted, the second round of colours is dashed."""
        if self.is_control(name):
            return "dotted"
        return "dashed" if self.place(name) // COLOURS % 2 else ""
