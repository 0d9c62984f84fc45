"""Pictures for reports, drawn off screen by Matplotlib."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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


def _log10(value: float) -> float:
    """A role without sensitivity is drawn as missing, not as the lowest."""
    return math.log10(value) if value > 0 else math.nan
