"""A figure: the drawing and its numbers."""

from dataclasses import dataclass, field

from markupsafe import Markup

from paraknow_core.report.page.sheet import Plot


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
        plot: makes the drawing; None if data are missing.
        label: what the drawing is, for who cannot see it.
        table: the numbers.
        legend: colour and dash → name of each line.
        missing: the sentence in place of all that, if data are missing.
        svg: the drawing, escaped; empty until it is drawn.
    """

    name: str
    title: str
    about: str = ""
    plot: Plot | None = None
    label: str = ""
    table: Table | None = None
    legend: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    svg: Markup = field(default_factory=Markup)
