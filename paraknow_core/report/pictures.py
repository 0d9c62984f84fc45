"""Pictures for reports, drawn off screen by Matplotlib."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    roles = {**table["roles"], "all": table["layers"]}
    layers = len(table["layers"])
    values = [[_log10(value) for value in sums] for sums in roles.values()]
    figure = Figure(figsize=(max(5.0, 1.8 + 0.32 * layers), 1.6 + 0.34 * len(roles)), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(values, aspect="auto", cmap="viridis")
    axes.set_yticks(range(len(roles)), list(roles))
    step = max(1, layers // 16)
    axes.set_xticks(range(0, layers, step), [str(layer) for layer in range(0, layers, step)])
    axes.set_xlabel("teacher layer (▼ taken by the student)")
    for layer in chosen:
        axes.text(layer, -0.55, "▼", ha="center", va="bottom", fontsize=8)
    axes.set_title(title, fontsize=10, pad=16)
    figure.colorbar(image, ax=axes, label="log₁₀ Σ |θ · ∂L/∂θ|")
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def forest_plot(comparison: "Comparison", path: Path) -> None:
    """Draw the verdicts' paired differences with 95 % intervals, one panel a pair, as a PNG.

    Args:
        comparison: a page's data; a contrast without numbers is left out.
        path: of the PNG; its bytes depend on the values alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(pair, [c for c in pair.contrasts if c.headline]) for pair in comparison.pairs]
    heights = [max(1, len(rows)) for _, rows in panels]
    figure = Figure(figsize=(7.5, 1.0 + sum(0.9 + 0.28 * h for h in heights)), dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights, sharex=True)
    for axes, (pair, rows) in zip(grid[:, 0], panels, strict=True):
        _forest_panel(axes, rows)
        axes.set_title(_plain(f"{pair.name} on {pair.task}"), fontsize=9, loc="left")
    grid[-1, 0].set_xlabel(_plain(f"difference in {comparison.metric}; left of 0: better"))
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})


def _forest_panel(axes: Any, rows: Sequence["Contrast"]) -> None:
    axes.axvline(0, color="0.6", linewidth=1)
    colours = {"better": "#0072b2", "worse": "#d55e00"}
    for place, row in enumerate(rows):
        if row.mean is None or row.low is None or row.high is None:
            continue
        colour = colours.get(row.result, "0.35")
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2)
        axes.plot([row.mean], [place], "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [_plain(row.label) for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.spines[["top", "right", "left"]].set_visible(False)


def _plain(text: str) -> str:
    """A name may hold a dollar sign, which Matplotlib would read as mathematics."""
    from paraknow_core.report.page.text import short

    return short(text, 60).replace("$", r"\$")


def _log10(value: float) -> float:
    """A role without sensitivity is drawn as missing, not as the lowest."""
    return math.log10(value) if value > 0 else math.nan
