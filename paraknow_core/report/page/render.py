"""A comparison as one HTML file: everything it needs is inside, nothing of it can run but its own.

Two programs stand in the page, Plotly and a small one that starts it; the content security policy
names both by digest and forbids all else, so that a text which got past the escaping would still
not run, and nothing is ever fetched.
"""

import base64
import gzip
import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

from paraknow_core.report.page.data import Comparison
from paraknow_core.report.page.sections import PairView, headline_columns, view_of
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import clean, number, p_value, percent, seconds

_FOLDER = "templates"


def render_page(comparison: Comparison) -> str:
    """Write a comparison as one self-contained HTML page.

    The same data give the same text. Without scripts every drawing and number is there; with them
    the drawings answer to hovering.

    Args:
        comparison: what to show; texts in it may be anything.

    Returns:
        The page; to be stored as UTF-8.
    """
    look = Look(comparison.methods)
    views = [view_of(pair, comparison, look, place) for place, pair in enumerate(comparison.pairs)]
    plotly = _packed_plotly()
    boot = _asset("page.js")
    text = (
        _environment()
        .get_template("page.html")
        .render(
            comparison=comparison,
            look=look,
            views=views,
            columns=headline_columns(comparison),
            style=Markup(_asset("page.css")),  # noqa: S704 - ours
            boot=Markup(boot),  # noqa: S704 - ours
            specs=embedded_json(_specs(views)),
            plotly=plotly[0],
            scripts=Markup(f"'sha256-{_sha256(boot)}' 'sha256-{plotly[1]}'"),  # noqa: S704
        )
    )
    return text if text.endswith("\n") else f"{text}\n"


def embedded_json(value: Any) -> Markup:
    r"""JSON for a script element: ``<``, ``>`` and ``&`` are written as ``\u003c`` and so on.

    Then no text in it can end the element or begin a comment.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":"), sort_keys=True)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)  # noqa: S704 - nothing is left that HTML could take for its own


def _specs(views: list[PairView]) -> dict[str, Any]:
    return {
        f"{view.anchor}-{figure.name}": figure.spec
        for view in views
        for figure in view.figures
        if figure.spec is not None
    }


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
    }
    return environment


def _shown(value: Any) -> Any:
    """What every expression in the template passes through on its way to the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _asset(name: str) -> str:
    place = resources.files("paraknow_core.report.page") / _FOLDER / name
    return place.read_text(encoding="utf-8")


@cache
def _packed_plotly() -> tuple[str, str]:
    """Plotly's program, gzipped in base64 (4.8 MB become 2.0 MB), and the digest of its text."""
    source = (resources.files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    text = source.decode("utf-8").replace("\r\n", "\n")
    packed = gzip.compress(text.encode("utf-8"), 9, mtime=0)
    return base64.b64encode(packed).decode("ascii"), _sha256(text)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
