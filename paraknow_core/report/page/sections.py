"""What the template shows of each pair: its figures and tables, ready to be written down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from markupsafe import Markup

from paraknow_core.report.benchmarks import (
    BenchmarkRow,
    about,
    contrasts_of,
    names_of,
    shown,
)
from paraknow_core.report.page import inline
from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.report.page.figure import Figure
from paraknow_core.report.page.figures import (
    cka,
    costs,
    curves,
    forest,
    orders,
    seeds,
    sensitivity,
    spectra,
    starts,
    sweep,
    windows,
)
from paraknow_core.report.page.outcome import Score
from paraknow_core.report.page.proof import PairOrder
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import number
from paraknow_core.statistics.contrast import Contrast

T = TypeVar("T")
R = TypeVar("R")
Tell = Callable[[str], None]

NOT_DRAWN = "This picture could not be drawn from these numbers."


def ignore(_what: str) -> None:
    """Tell nobody."""


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

    @property
    def benchmarks(self) -> list[BenchmarkRow]:
        """The benchmarks that were asked for, without the parts of groups."""
        return shown(self.pair.benchmarks)

    @property
    def benchmark_names(self) -> dict[str, str]:
        """Method → how it is called, as columns of their table."""
        return names_of(self.benchmarks)

    @property
    def benchmark_contrasts(self) -> list[tuple[str, str]]:
        """What is compared with what, as further columns."""
        return contrasts_of(self.benchmarks)

    @property
    def about_benchmarks(self) -> str:
        """What their numbers are."""
        return about(self.benchmarks)


def view_of(pair: Pair, look: Look, place: int, tell: Tell = ignore) -> PairView:
    """Draw everything of one pair; a picture that fails is named in its place, the rest stands.

    Args:
        pair: its data.
        look: colours and line styles of the methods.
        place: among the pairs.
        tell: called with what could not be drawn, and why.
    """
    guarded = partial(_guarded, tell=tell, where=f"{pair.name} on {pair.task}")
    nothing: tuple[list[Markup] | None, Markup] = (None, drawing_failed())
    anchor = f"pair-{place}"
    intervals, axis = guarded("the paired differences", partial(_forest, pair, anchor), nothing)
    strips = guarded("the seeds", partial(_strips, pair, look, anchor), None)
    figures = (
        ("train", curves.TITLES["train"], partial(curves.draw, pair, look, "train")),
        ("validation", curves.TITLES["validation"], partial(curves.draw, pair, look, "validation")),
        ("sweep", sweep.TITLE, partial(sweep.draw, pair, look)),
        ("sensitivity", sensitivity.TITLE, partial(sensitivity.draw, pair)),
        ("windows", windows.TITLE, partial(windows.draw, pair)),
        ("spectra", spectra.TITLE, partial(spectra.draw, pair)),
        ("cka", cka.TITLE, partial(cka.draw, pair)),
        ("starts", starts.TITLE, partial(starts.draw, pair, look)),
        ("costs", costs.TITLE, partial(costs.draw, pair)),
    )
    return PairView(
        anchor=anchor,
        pair=pair,
        scores=_beside(pair.scores, strips),
        forest=_beside(pair.contrasts, intervals),
        forest_axis=axis,
        headlines={c.against: c for c in pair.contrasts if c.headline},
        figures=[
            guarded(
                f"the picture {title!r}",
                partial(_drawn, draw, anchor),
                Figure(name, title, missing=NOT_DRAWN),
            )
            for name, title, draw in figures
        ],
    )


def _guarded(what: str, draw: Callable[[], T], instead: T, *, tell: Tell, where: str) -> T:
    """Draw, or tell why not; what the machine denies is no fault of the picture and is raised."""
    try:
        return draw()
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the numbers are worth a page
        tell(f"{where}: {what} could not be drawn: {type(error).__name__}: {error}")
        return instead


def _drawn(draw: Callable[[], Figure], anchor: str) -> Figure:
    figure = draw()
    if figure.plot is None:
        return figure
    svg = inline.drawing(figure.plot, figure.label, f"{anchor}-{figure.name}")
    return replace(figure, svg=svg)


def order_figure(order: PairOrder, look: Look, place: int, tell: Tell = ignore) -> Figure:
    """Draw an order of pairs; a picture that fails is named in its place.

    Args:
        order: its data.
        look: colours and line styles of the methods.
        place: among the orders.
        tell: called with what could not be drawn, and why.
    """
    return _guarded(
        f"the picture {order.title!r}",
        partial(_drawn, partial(orders.draw, order, look), f"order-{place}"),
        Figure("order", order.title, missing=NOT_DRAWN),
        tell=tell,
        where=f"{', '.join(order.pairs)} on {order.task}",
    )


def drawing_failed() -> Markup:
    """What stands in place of a small drawing."""
    return Markup("<span>{}</span>").format(NOT_DRAWN)


def _forest(pair: Pair, anchor: str) -> tuple[list[Markup] | None, Markup]:
    labels = [f"{c.label}: {number(c.mean, 4)}" for c in pair.contrasts]
    plot = partial(forest.plot, pair.contrasts, higher_is_better=pair.metric.higher_is_better)
    return inline.rows(plot, labels, forest.ROW, f"{anchor}-forest") if labels else ([], Markup())


def _strips(pair: Pair, look: Look, anchor: str) -> list[Markup] | None:
    labels = [f"{score.method}: {number(score.mean)}" for score in pair.scores]
    plot = partial(seeds.plot, pair.scores, look)
    return inline.rows(plot, labels, seeds.ROW, f"{anchor}-seeds")[0] if labels else None


def _beside(rows: Sequence[R], drawn: list[Markup] | None) -> list[tuple[R, Markup]]:
    return list(zip(rows, drawn or [drawing_failed()] * len(rows), strict=True))


def headline_columns(comparison: Comparison) -> list[str]:
    """The columns of the first table: what the pairs' headline contrasts are against."""
    found = (c.against for pair in comparison.pairs for c in pair.contrasts if c.headline)
    return list(dict.fromkeys(found))
