"""A comparison as one HTML file: everything it needs is inside, nothing of it can run but its own.

The drawings are SVG with their values as titles. One small program stands in the page, which shows
a title at once and also after a touch; the content security policy names it by digest and forbids
all else, so that a text which got past the escaping would still not run, and nothing is ever
fetched.
"""

import base64
import hashlib
from importlib import resources
from typing import Any

from markupsafe import Markup

from paraknow_core.report.page.data import Comparison
from paraknow_core.report.page.palette import style_sheet
from paraknow_core.report.page.sections import Tell, headline_columns, ignore, order_figure, view_of
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import clean, flop, number, p_value, percent, seconds

_FOLDER = "templates"


def render_page(comparison: Comparison, *, tell: Tell = ignore) -> str:
    """Write a comparison as one self-contained HTML page.

    The same data give the same text. Every drawing and number is there without scripts.

    Args:
        comparison: what to show; texts in it may be anything.
        tell: called with each picture that could not be drawn, and why; the page names it too.

    Returns:
        The page; to be stored as UTF-8.
    """
    look = Look(comparison.methods)
    views = [view_of(pair, look, place, tell) for place, pair in enumerate(comparison.pairs)]
    program = _program()
    text = (
        _environment()
        .get_template("page.html")
        .render(
            comparison=comparison,
            look=look,
            views=views,
            orders=[
                (order, order_figure(order, look, place, tell))
                for place, order in enumerate(comparison.orders)
            ],
            untrained=[pair for pair in comparison.pairs if pair.untrained],
            columns=headline_columns(comparison),
            style=Markup(style_sheet()),  # noqa: S704 - ours
            program=Markup(program),  # noqa: S704 - ours
            scripts=Markup(f"'sha256-{_sha256(program)}'"),  # noqa: S704 - ours
        )
    )
    return text if text.endswith("\n") else f"{text}\n"


def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        autoescape=True,
        loader=PackageLoader("paraknow_core.report.page", _FOLDER),
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "p_value": p_value,
        "percent": percent,
        "seconds": seconds,
        "flop": flop,
    }
    return environment


def _shown(value: Any) -> Any:
    """What every expression in the template passes through on its way to the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _program() -> str:
    place = resources.files("paraknow_core.report.page") / _FOLDER / "page.js"
    return place.read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
