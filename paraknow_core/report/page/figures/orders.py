"""An order of pairs: the trained student's score against the teacher's, one line a method."""

from functools import partial

from paraknow_core.report.page import linechart
from paraknow_core.report.page.figure import Figure
from paraknow_core.report.page.linechart import Axes, Series
from paraknow_core.report.page.proof import PairOrder
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import finite

TITLE = "Student against teacher"


def draw(order: PairOrder, look: Look) -> Figure:
    """Draw each method's mean score at the score of the pair's teacher, or at its place."""
    lines = [line for line in order.lines if finite(line.means)]
    if not lines:
        return Figure("order", TITLE, missing="No method has a result in every pair.")
    known = finite(order.teachers)
    by_score = len(known) == len(order.pairs) and len(set(known)) == len(known)
    places = known if by_score else [float(place) for place in range(1, len(order.pairs) + 1)]
    along = sorted(range(len(places)), key=places.__getitem__)
    drawn = [
        Series(
            name=line.method,
            colour=look.colour(line.method),
            x=[places[place] for place in along],
            y=[line.means[place] for place in along],
            dash=look.dash(line.method),
            dots=True,
        )
        for line in lines
    ]
    label = f"the teacher’s own {order.metric.title}" if by_score else "place in the order"
    axes = Axes(label, f"{order.metric.title} of the trained student")
    return Figure(
        "order",
        TITLE,
        "A line that goes with the teacher’s score speaks for the teacher, if the controls "
        "(dotted) stay level. Means over seeds; the table above has the numbers.",
        partial(linechart.plot, drawn, axes),
        f"{TITLE}: {order.title}, {', '.join(order.pairs)}",
        legend=tuple((look.style(line.method), line.method) for line in lines),
    )
