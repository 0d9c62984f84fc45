"""Each seed of a method as a dot on one small scale, for the table of results."""

from collections.abc import Sequence

from markupsafe import Markup

from paraknow_core.report.page import svg
from paraknow_core.report.page.outcome import Score
from paraknow_core.report.page.scales import Scale, finite, fit
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import number

WIDTH, HEIGHT = 260.0, 20.0


def scale_of(scores: Sequence[Score]) -> Scale:
    """One scale for all methods."""
    values = [v for s in scores for v in finite([s.mean, *s.values])]
    return fit(values or [0.0, 1.0], 6, WIDTH - 6)


def strip(score: Score, scale: Scale, look: Look) -> Markup:
    """The seeds, and a stroke at their mean."""
    middle, style = HEIGHT / 2, look.style(score.method)
    parts = [svg.line((0, middle), (WIDTH, middle), "rule")]
    parts += [
        svg.dot((scale(v), middle), 3.4, f"faint {style}", title=number(v, 4))
        for v in finite(score.values)
    ]
    if finite([score.mean]) and score.mean is not None:
        at = scale(score.mean)
        parts.append(svg.line((at, 2), (at, HEIGHT - 2), "median"))
    return svg.drawing(WIDTH, HEIGHT, parts, f"{score.method}: {number(score.mean)}")
