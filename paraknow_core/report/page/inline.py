"""A drawing as SVG elements of a page: coloured by its style sheet, telling by ``<title>``.

What Matplotlib writes is taken apart and only known elements and attributes go into the page.
"""

import re
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from markupsafe import Markup

from paraknow_core.report.page.palette import names
from paraknow_core.report.page.sheet import Plot, Sheet, Tip, matplotlib_style
from paraknow_core.report.page.text import clean, short

if TYPE_CHECKING:
    Element = ET.Element

_SHAPES = ("path", "use")
_KEPT = {"d", "x", "y", "transform", "style", "id", "class", "href"}
_FONT = re.compile(r"(?:font-size: |font: )(\d+(?:\.\d+)?)px")
_LONG = re.compile(r"-?\d+\.\d{3,}")


def drawing(plot: Plot, label: str, name: str) -> Markup:
    """Draw, as one SVG element.

    Args:
        plot: makes the drawing.
        label: is read out in the drawing's stead.
        name: begins every id in it; unique on the page, a word of the program's own.
    """
    with matplotlib_style():
        sheet = plot()
        root = _parsed(sheet, name)
    return _written(root, (0, 0, sheet.width, sheet.height), label)


def rows(plot: Plot, labels: list[str], height: float, name: str) -> tuple[list[Markup], Markup]:
    """Draw, and cut into rows for the cells of a table.

    Args:
        plot: makes a drawing whose rows lie on each other from the top.
        labels: of each row, read out in its stead.
        height: of each row.
        name: as in ``drawing``.

    Returns:
        The rows, and what lies below the last one.
    """
    with matplotlib_style():
        sheet = plot()
        root = _parsed(sheet, name)
    cut = [ET.Element("svg") for _ in labels]
    for row, part in _taken(root):
        cut[row].append(part)
    drawn = [
        _written(svg, (0, height * place, sheet.width, height), label)
        for place, (svg, label) in enumerate(zip(cut, labels, strict=True))
    ]
    below = height * len(labels)
    return drawn, _written(root, (0, below, sheet.width, sheet.height - below), "axis")


def _parsed(sheet: Sheet, name: str) -> "Element":
    """Matplotlib's SVG without name spaces, metadata and style of its own."""
    file = BytesIO()
    sheet.figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    found = ET.fromstring(file.getvalue())  # noqa: S314 - written by Matplotlib just now
    for element in found.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {key.rpartition("}")[2]: v for key, v in element.attrib.items()}
        element.tail = None
        if element.tag != "text":
            element.text = None
    root = ET.Element("svg")
    root.extend(child for child in found if child.tag == "g")
    _tell(root, sheet.tips)
    _rename(root, name)
    for element in root.iter():
        _dress(element)
    return root


def _tell(root: "Element", tips: dict[str, Tip]) -> None:
    """Give each mark its title and its row."""
    groups = {g.get("id", ""): g for g in root.iter("g") if g.get("id", "") in tips}
    for name, tip in tips.items():
        marks = list(_marks(groups[name])) if name in groups else []
        for mark, words in zip(marks, tip.texts, strict=True) if tip.texts else ():
            mark.set("class", tip.css)
            ET.SubElement(mark, "title").text = clean(words)
            if tip.css != "mark":
                del mark.attrib["style"]
        for mark, row in zip(marks, tip.rows, strict=True) if tip.rows else ():
            mark.set("row", str(row))


def _marks(group: "Element") -> Iterator["Element"]:
    """The shapes that are painted, in their order; definitions are not."""
    for child in group:
        if child.tag in _SHAPES:
            yield child
        elif child.tag == "g":
            yield from _marks(child)


def _rename(root: "Element", name: str) -> None:
    """Keep the ids that something refers to, unique on the page."""
    used = list(dict.fromkeys(e.get("href", "")[1:] for e in root.iter("use")))
    new = {old: f"{name}-{place}" for place, old in enumerate(used)}
    for element in root.iter():
        old = element.attrib.pop("id", "")
        if old in new:
            element.set("id", new[old])
        if element.tag == "use":
            element.set("href", f"#{new[element.attrib['href'][1:]]}")


def _dress(element: "Element") -> None:
    """Colours by name, sizes of text that the page can scale, numbers to a hundredth."""
    element.attrib = {k: v for k, v in element.attrib.items() if k in _KEPT or k == "row"}
    if element.tag == "text":
        element.text = clean(element.text or "")
    if "style" in element.attrib:
        element.set("style", _coloured(element.attrib["style"], text=element.tag == "text"))
    for key in {"d", "x", "y", "transform"} & set(element.attrib):
        rounded = _LONG.sub(lambda found: f"{float(found[0]):.2f}", element.attrib[key])
        element.set(key, " ".join(rounded.split()))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


def _coloured(style: str, *, text: bool) -> str:
    kept = []
    for part in style.split(";"):
        size = _FONT.search(part)
        if text and size:
            kept.append(f"font-size:calc({size[1]}px*var(--k))")
        elif not (text and part.strip().startswith("font")):
            key, _, value = part.strip().partition(": ")
            kept.append(f"{key}:{_named(value)}")
    return ";".join(kept)


def _named(value: str) -> str:
    """A colour's name; a colour without one would stay light in the dark, and is refused."""
    return f"var(--{names()[value]})" if value.startswith("#") else value


def _taken(root: "Element") -> list[tuple[int, "Element"]]:
    """Take the parts that belong to rows out of the whole.

    What marks refer to goes into the first row: it may stand in any drawing of the page.
    """
    found = []
    for parent in list(root.iter()):
        for child in [c for c in parent if "row" in c.attrib or c.tag == "defs"]:
            parent.remove(child)
            found.append((int(child.attrib.pop("row", "0")), child))
    return found


def _written(svg: "Element", view: tuple[float, float, float, float], label: str) -> Markup:
    _prune(svg)
    svg.attrib = {
        "viewBox": " ".join(f"{number:g}" for number in view),
        "role": "img",
        "aria-label": short(label, 200),
        "class": "drawing",
    }
    return Markup(ET.tostring(svg, encoding="unicode"))  # noqa: S704 - escaped by ElementTree


def _prune(parent: "Element") -> None:
    """Leave out groups in which nothing is left, and those that only hold one thing."""
    for place, child in reversed(list(enumerate(parent))):
        _prune(child)
        if child.tag in ("g", "defs") and not len(child):
            parent.remove(child)
        elif child.tag == "g" and len(child) == 1 and not child.attrib:
            parent[place] = child[0]
