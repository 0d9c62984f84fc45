"""What the template shows of each pair: its figures and tables, ready to be written down."""

from dataclasses import dataclass

from markupsafe import Markup

from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.report.page.figure import Figure
from paraknow_core.report.page.figures import (
    cka,
    costs,
    curves,
    forest,
    seeds,
    sensitivity,
    spectra,
    starts,
    sweep,
    windows,
)
from paraknow_core.report.page.outcome import Score
from paraknow_core.report.page.styles import Look
from paraknow_core.statistics.contrast import Contrast


@dataclass(frozen=True)
class PairView:
    """One pair, ready for the template.

    Attributes:
        anchor: its place on the page, such as ``pair-0``.
        pair: its data.
        scores: each score with its seeds drawn.
        forest: each contrast with its interval drawn.
        forest_axis: the ticks below.
        headlines: ``against`` → the contrast in the first table.
        figures: those with a place in the grid, by name.
    """

    anchor: str
    pair: Pair
    scores: list[tuple[Score, Markup]]
    forest: list[tuple[Contrast, Markup]]
    forest_axis: Markup
    headlines: dict[str, Contrast]
    figures: list[Figure]


def view_of(pair: Pair, comparison: Comparison, look: Look, place: int) -> PairView:
    """Draw everything of one pair."""
    span, scale = forest.scale_of(pair.contrasts), seeds.scale_of(pair.scores)
    return PairView(
        anchor=f"pair-{place}",
        pair=pair,
        scores=[(score, seeds.strip(score, scale, look)) for score in pair.scores],
        forest=[(contrast, forest.row(contrast, span)) for contrast in pair.contrasts],
        forest_axis=forest.axis(span),
        headlines={c.against: c for c in pair.contrasts if c.headline},
        figures=[
            curves.draw(pair, look, "train"),
            curves.draw(pair, look, "validation"),
            sweep.draw(pair, look, comparison.metric),
            sensitivity.draw(pair),
            windows.draw(pair),
            spectra.draw(pair),
            cka.draw(pair),
            starts.draw(pair, look),
            costs.draw(pair),
        ],
    )


def headline_columns(comparison: Comparison) -> list[str]:
    """The columns of the first table: what the pairs' headline contrasts are against."""
    found = (c.against for pair in comparison.pairs for c in pair.contrasts if c.headline)
    return list(dict.fromkeys(found))
