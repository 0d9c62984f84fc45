"""The colours of the drawings: names in the style sheet, and their values in the light theme.

Matplotlib draws in the light theme's values. In a page each value becomes its name again, as
``var(--name)``, so that the style sheet decides in light, in dark and on paper.
"""

import re
from functools import cache
from importlib import resources

COLOURS = 10
"""Colours of methods: ``m0`` to ``m9``, told apart by colour-blind people too."""

NAMES = (
    *("paper", "ink", "soft", "rule", "heat", "ring", "better", "worse", "unclear"),
    *(f"m{place}" for place in range(COLOURS)),
)
"""What a drawing may be painted with."""


def style_sheet() -> str:
    """The page's style sheet."""
    place = resources.files("paraknow_core.report.page") / "templates" / "page.css"
    return place.read_text(encoding="utf-8")


@cache
def colours() -> dict[str, str]:
    """Name → value in the light theme, such as ``m1`` → ``#0072b2``."""
    light = style_sheet().partition(":root {")[2].partition("}")[0]
    found = dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", light))
    return {name: found[name] for name in NAMES}


@cache
def names() -> dict[str, str]:
    """Value in the light theme → name; each value has one name."""
    return {value: name for name, value in colours().items()}


def colour(name: str, alpha: float = 1.0) -> tuple[float, float, float, float]:
    """A colour as Matplotlib takes it.

    Args:
        name: one of ``NAMES``.
        alpha: how opaque, 0..1; values outside are moved to the nearest end.
    """
    value = colours()[name]
    red, green, blue = (int(value[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return (red, green, blue, min(1.0, max(0.0, alpha)))
