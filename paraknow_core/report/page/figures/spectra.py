"""Singular values of what is taken from the teacher, one line a module."""

from functools import partial

from paraknow_core.report.page import linechart
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.diagnosis import Spectrum
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.linechart import Axes, Series
from paraknow_core.report.page.palette import COLOURS
from paraknow_core.report.page.text import finite, number, percent, short

TITLE = "Singular spectra"


def draw(pair: Pair) -> Figure:
    """Draw all modules, coloured by role, on a logarithmic axis."""
    found = [s for s in pair.spectra if any(map(_above_0, s.values))]
    if not found:
        return Figure("spectra", TITLE, missing="No singular values were handed over.")
    roles = list(dict.fromkeys(s.role for s in found))
    lines = [_series(spectrum, roles) for spectrum in found]
    axes = Axes("singular value, from the greatest", "σ", log_y=True)
    return Figure(
        "spectra",
        TITLE,
        "Of the teacher’s windows, one line a module, coloured by role. A flat line means that the "
        "rank cuts off much.",
        partial(linechart.plot, lines, axes),
        f"{TITLE} of {pair.name}",
        _table(found),
        tuple((_colour(role, roles), role) for role in roles),
    )


def _above_0(value: float | None) -> bool:
    return any(v > 0 for v in finite([value]))


def _colour(role: str, roles: list[str]) -> str:
    return f"m{roles.index(role) % COLOURS}"


def _series(spectrum: Spectrum, roles: list[str]) -> Series:
    first, last = number(spectrum.values[0]), number(spectrum.values[-1])
    return Series(
        name=spectrum.role,
        colour=_colour(spectrum.role, roles),
        x=[float(i) for i in range(1, len(spectrum.values) + 1)],
        y=[v if _above_0(v) else None for v in spectrum.values],
        tip=f"{short(spectrum.module, 80)}\nσ {first} to {last}, "
        f"{percent(spectrum.energy)} of the squared norm",
    )


def _table(spectra: list[Spectrum]) -> Table:
    head = ("module", "σ₁", "σ last", "values", "share of the squared norm")
    rows = [
        (s.module, number(s.values[0]), number(s.values[-1]), str(len(s.values)), percent(s.energy))
        for s in spectra
    ]
    return Table(head, tuple(rows))
