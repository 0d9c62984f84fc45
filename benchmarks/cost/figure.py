"""The measured points next to their laws: a row for each step, a column for what was varied."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cost.page import fitted
from benchmarks.cost.points import FOLDER, of_step
from flows.calibration.measure import MEASURED, Sample
from flows.calibration.shapes import AXES, along

IMAGE = FOLDER.parent / "images" / "cost.png"
_POINT, _LAW, _GRID = "#1b6ca8", "#c2410c", "#dddddd"


def draw(samples: Sequence[Sample], path: Path = IMAGE) -> None:
    """Draw seconds against each size, both on logarithmic scales."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, ScalarFormatter

    laws = fitted(samples)
    figure = Figure(figsize=(13, 10), layout="constrained")
    grid = figure.subplots(len(MEASURED), len(AXES), sharex="col", sharey="row")
    for row, step in zip(grid, MEASURED, strict=True):
        for axes, (axis, values) in zip(row, AXES.items(), strict=True):
            found = of_step(samples, step, along(axis))
            sizes = [getattr(one.shape, axis) for one in found]
            axes.loglog(sizes, [laws[step].seconds(one.work) for one in found], color=_LAW)
            axes.loglog(sizes, [one.cpu for one in found], "o", color=_POINT, markersize=5)
            axes.grid(visible=True, color=_GRID, linewidth=0.6)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks(values, labels=[_size(value) for value in values], fontsize=7)
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(ScalarFormatter())
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.tick_params(labelsize=7)
            axes.set_facecolor("white")
    for axes, axis in zip(grid[-1], AXES, strict=True):
        axes.set_xlabel(axis)
    for row, step in zip(grid, MEASURED, strict=True):
        row[0].set_ylabel(f"{step}, s")
    figure.savefig(path, dpi=80, metadata={"Software": None})


def _size(value: int) -> str:
    return str(value) if value < 1000 else f"{value / 1000:.0f}k"
