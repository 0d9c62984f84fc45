"""A figure: the drawing that needs no script, the one that answers to hovering, and the numbers."""

from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup


@dataclass(frozen=True)
class Table:
    """Numbers of a figure as text; the first column names the row."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Figure:
    """One figure of a pair.

    Attributes:
        name: unique within the pair; a word.
        title: heading.
        about: what is drawn and how to read it.
        svg: the drawing, escaped.
        spec: data and layout for Plotly; None where hovering adds nothing.
        table: the numbers.
        missing: the sentence in place of all that, if data are missing.
        wide: whether it takes the page's whole width.
    """

    name: str
    title: str
    about: str = ""
    svg: Markup = field(default_factory=Markup)
    spec: dict[str, Any] | None = None
    table: Table | None = None
    missing: str = ""
    wide: bool = False
