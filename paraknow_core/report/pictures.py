"""Pictures as files: the page's own drawings, as PNG in the light theme's colours."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraknow_core.report.page.sheet import WIDTH, Sheet, save_png

if TYPE_CHECKING:
    from paraknow_core.report.page.data import Comparison
    from paraknow_core.statistics.contrast import Contrast


def sensitivity_heatmap(
    table: Mapping[str, Any], path: Path, *, chosen: Sequence[int], title: str
) -> None:
    """Draw the teacher's sensitivity, layers × module roles, as a PNG; chosen layers are marked.

    Args:
        table: ``{"roles": {role: [sum of each layer]}, "layers": [sum of each layer], …}``.
        path: of the PNG; its bytes depend on the values alone.
        chosen: layers that the student takes from.
        title: above the picture.
    """
    from paraknow_core.report.page import heatmap
    from paraknow_core.report.page.diagnosis import Sensitivity
    from paraknow_core.report.page.figures.sensitivity import grid_of

    found = Sensitivity(
        roles=tuple(table["roles"]),
        sums=tuple(map(tuple, table["roles"].values())),
        layers=tuple(table["layers"]),
        chosen=tuple(chosen),
    )
    width = max(WIDTH, 90.0 + 22 * len(found.layers))
    save_png(partial(heatmap.plot, grid_of(found), width=width, title=title), path)


def forest_plot(comparison: "Comparison", path: Path) -> None:
    """Draw the verdicts' paired differences with 95 % intervals, one panel a pair, as a PNG.

    Args:
        comparison: a page's data; a contrast without numbers is left out.
        path: of the PNG; its bytes depend on the values alone.
    """
    is_mixed = len(comparison.measures) > 1
    panels, label = [], ""
    for pair in comparison.pairs:
        side = "right" if pair.metric.higher_is_better else "left"
        label = f"difference in {pair.metric.title}; {side} of 0: better"
        title = f"{pair.name} on {pair.task}" + (f": {label}" if is_mixed else "")
        panels.append((title, [c for c in pair.contrasts if c.headline]))
    save_png(partial(_panels, panels, "" if is_mixed else label), path)


def _panels(panels: Sequence[tuple[str, Sequence["Contrast"]]], label: str) -> Sheet:
    """Panels below each other, on one scale; without a label that fits all, each on its own."""
    from paraknow_core.report.page.figures import forest
    from paraknow_core.report.page.text import room, short

    left = 10 + room([short(c.label, 60) for _, rows in panels for c in rows])
    heights = [26 + forest.ROW * max(1, len(rows)) + 24 for _, rows in panels]
    sheet = Sheet(sum(heights) + 30, width=left + 400)
    top, first = 0.0, None
    for (title, rows), height in zip(panels, heights, strict=True):
        bottom = sheet.height - top - height
        axes = sheet.axes(
            left=left, right=16, top=top + 26, bottom=bottom + 24, share_x=first if label else None
        )
        forest.panel(sheet, axes, rows)
        axes.set_yticks(range(len(rows)), [short(row.label, 60) for row in rows])
        axes.set_title(short(title, 110), x=-left / 384)
        first, top = first or axes, top + height
    if first:
        axes.set_xlabel(short(label, 90))
    return sheet
