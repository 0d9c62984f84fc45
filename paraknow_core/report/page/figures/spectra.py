"""Singular values of what is taken from the teacher, one line a module."""

from paraknow_core.report.page import linechart
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import Spectrum
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.linechart import Axes, Series
from paraknow_core.report.page.text import number, percent

TITLE = "Singular spectra"


def draw(pair: Pair) -> Figure:
    """Draw all modules, coloured by role, on a logarithmic axis."""
    found = [s for s in pair.spectra if any(v is not None and v > 0 for v in s.values)]
    if not found:
        return Figure("spectra", TITLE, missing="No singular values were handed over.")
    roles = list(dict.fromkeys(s.role for s in found))
    lines = [_series(s, roles, first=s is _first(found, s.role)) for s in found]
    axes = Axes("singular value, from the greatest", "σ", log_y=True)
    return Figure(
        "spectra",
        TITLE,
        "Of the teacher’s windows, one line a module, coloured by role. A flat line means that the "
        "rank cuts off much.",
        linechart.draw(lines, axes, f"{TITLE} of {pair.name}"),
        linechart.spec(lines, axes),
        _table(found),
    )


def _first(spectra: list[Spectrum], role: str) -> Spectrum:
    return next(s for s in spectra if s.role == role)


def _series(spectrum: Spectrum, roles: list[str], *, first: bool) -> Series:
    place = roles.index(spectrum.role) % 10
    return Series(
        name=spectrum.role,
        style=f"thin m{place}",
        colour=f"--m{place}",
        x=[float(i) for i in range(1, len(spectrum.values) + 1)],
        y=[v if v is not None and v > 0 else None for v in spectrum.values],
        label=first,
    )


def _table(spectra: list[Spectrum]) -> Table:
    head = ("module", "σ₁", "σ last", "values", "share of the squared norm")
    rows = [
        (s.module, number(s.values[0]), number(s.values[-1]), str(len(s.values)), percent(s.energy))
        for s in spectra
    ]
    return Table(head, tuple(rows))
