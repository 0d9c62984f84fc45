"""Small drawings as SVG elements, coloured by the style sheet's classes, every text escaped."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup, escape

from paraknow_core.report.page.scales import Scale
from paraknow_core.report.page.text import clean, compact, short

Point = tuple[float, float]


def element(tag: str, content: object = "", **attributes: object) -> Markup:
    """One element; an attribute ``css`` becomes ``class``, ``_`` in names becomes ``-``.

    Args:
        tag: its name; fixed by the program, never from data.
        content: text (escaped) or markup.
        attributes: values are escaped; numbers are rounded to a tenth.
    """
    named = {_name(name): _value(value) for name, value in attributes.items() if value is not None}
    inside = "".join(f' {name}="{escape(value)}"' for name, value in named.items())
    return Markup(f"<{tag}{inside}>{escape(_value(content))}</{tag}>")  # noqa: S704 - all escaped


def _name(name: str) -> str:
    return "class" if name == "css" else name.replace("_", "-")


def _value(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def group(parts: Iterable[Markup]) -> Markup:
    """Parts one after the other."""
    return Markup("").join(parts)


def drawing(width: float, height: float, parts: Iterable[Markup], label: str) -> Markup:
    """A whole drawing, scaled to its place; ``label`` is read out in its stead."""
    return element(
        "svg",
        group(parts),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=short(label, 200),
        css="drawing",
    )


def text(x: float, y: float, content: str, *, anchor: str = "start", css: str = "") -> Markup:
    """A line of text; ``anchor`` is start, middle or end."""
    return element("text", content, x=x, y=y, text_anchor=anchor, css=css or None)


def line(a: Point, b: Point, css: str) -> Markup:
    """A straight line."""
    return element("line", x1=a[0], y1=a[1], x2=b[0], y2=b[1], css=css)


def path(points: Sequence[Point], css: str) -> Markup:
    """A line through points."""
    return element("polyline", points=_points(points), css=css)


def area(points: Sequence[Point], css: str) -> Markup:
    """A filled polygon."""
    return element("polygon", points=_points(points), css=css)


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def box(
    x: float,
    y: float,
    width: float,
    height: float,
    css: str,
    *,
    title: str = "",
    strength: float | None = None,
) -> Markup:
    """A rectangle; ``strength`` 0..1 is how opaque it is, ``title`` shows on hovering."""
    tip = element("title", title) if title else ""
    opacity = None if strength is None else f"{min(1.0, max(0.0, strength)):.3f}"
    return element("rect", tip, x=x, y=y, width=width, height=height, css=css, fill_opacity=opacity)


def dot(at: Point, radius: float, css: str, *, title: str = "") -> Markup:
    """A disc; ``title`` shows on hovering."""
    tip = element("title", title) if title else ""
    return element("circle", tip, cx=at[0], cy=at[1], r=radius, css=css)


def x_axis(
    scale: Scale, y: float, label: str, *, top: float, ticks: Sequence[float] = ()
) -> Markup:
    """Ticks, faint vertical rules up to ``top``, and the label below."""
    parts = []
    for tick in ticks or scale.ticks(6):
        at = scale(tick)
        parts.append(line((at, top), (at, y), "rule"))
        parts.append(text(at, y + 15, compact(tick), anchor="middle", css="tick"))
    middle = (scale.start + scale.end) / 2
    return group([*parts, text(middle, y + 32, label, anchor="middle", css="axis")])


def y_axis(scale: Scale, x: float, label: str, *, right: float) -> Markup:
    """Ticks, faint horizontal rules to ``right``, and the label above."""
    parts = []
    for tick in scale.ticks():
        at = scale(tick)
        parts.append(line((x, at), (right, at), "rule"))
        parts.append(text(x - 6, at + 3.5, compact(tick), anchor="end", css="tick"))
    top = min(scale.start, scale.end)
    return group([*parts, text(0, top - 12, label, css="axis")])
