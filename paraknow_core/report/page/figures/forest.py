"""The forest plot: paired differences with their 95 % intervals, one row each, on one scale."""

from collections.abc import Sequence

from markupsafe import Markup

from paraknow_core.report.page import svg
from paraknow_core.report.page.scales import Scale, finite, fit
from paraknow_core.report.page.text import number
from paraknow_core.statistics.contrast import Contrast

WIDTH, HEIGHT = 340.0, 24.0


def scale_of(contrasts: Sequence[Contrast]) -> Scale:
    """One scale for all rows; 0 is always on it."""
    values = [v for c in contrasts for v in finite([c.mean, c.low, c.high])]
    return fit([0.0, *values], 8, WIDTH - 8)


def row(contrast: Contrast, scale: Scale) -> Markup:
    """One interval with its mean, beside the line of no difference."""
    middle = HEIGHT / 2
    parts = [svg.line((scale(0), 0), (scale(0), HEIGHT), "zero")]
    low, high, mean = contrast.low, contrast.high, contrast.mean
    style = contrast.result
    if low is not None and high is not None:
        parts.append(svg.line((scale(low), middle), (scale(high), middle), f"interval {style}"))
        for end in (low, high):
            parts.append(
                svg.line((scale(end), middle - 4), (scale(end), middle + 4), f"interval {style}")
            )
    if mean is not None:
        parts.append(svg.dot((scale(mean), middle), 4.2, f"mean {style}", title=number(mean, 4)))
    return svg.drawing(WIDTH, HEIGHT, parts, f"{contrast.label}: {number(mean, 4)}")


def axis(scale: Scale) -> Markup:
    """The ticks below the rows."""
    parts = [svg.line((scale(0), 0), (scale(0), 6), "zero")]
    parts += [
        svg.text(scale(tick), 16, number(tick, 2), anchor="middle", css="tick")
        for tick in scale.ticks(5)
    ]
    parts += [
        svg.text(0, 32, "← better", css="axis"),
        svg.text(WIDTH, 32, "worse →", anchor="end", css="axis"),
    ]
    return svg.drawing(WIDTH, 36, parts, "axis")
