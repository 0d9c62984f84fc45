"""A drawing by Matplotlib: its size and style, and what its marks tell when they are hovered.

One unit is one pixel of a page that shows the drawing at its own width.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paraknow_core.report.page.palette import colour, colours
from paraknow_core.report.page.text import compact

WIDTH = 400.0
SMALL, TINY = 10.5, 9.5

_MATPLOTLIB = threading.Lock()


Points = Sequence[tuple[float, float]]
Paint = tuple[float, float, float, float]


@dataclass(frozen=True)
class Line:
    """A line through points, as Matplotlib draws it."""

    points: Points
    paint: Paint
    width: float = 1.5
    dash: Any = "solid"


@dataclass(frozen=True)
class Tip:
    """What the marks of one of Matplotlib's artists tell, in the order in which it draws them.

    Attributes:
        texts: one a mark; none: its marks tell nothing.
        css: class of each mark that tells.
        rows: of each mark, the row of a table that it belongs to; none: the drawing stays whole.
    """

    texts: tuple[str, ...] = ()
    css: str = "mark"
    rows: tuple[int, ...] = ()


class Sheet:
    """A drawing in the making; made inside ``matplotlib_style``.

    Attributes:
        width: in units.
        height: in units.
        figure: Matplotlib's.
        tips: id of an artist → what its marks tell.
    """

    def __init__(self, height: float, *, width: float = WIDTH) -> None:
        from matplotlib.figure import Figure

        self.width, self.height = width, height
        self.figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        self.tips: dict[str, Tip] = {}

    def axes(
        self, *, left: float, right: float, top: float, bottom: float, share_x: Any = None
    ) -> Any:
        """A pair of axes at these distances from the drawing's edges, in units."""
        across = (self.width - left - right) / self.width
        up = (self.height - top - bottom) / self.height
        place = (left / self.width, bottom / self.height, across, up)
        axes = self.figure.add_axes(place, sharex=share_x)
        axes.minorticks_off()
        return axes

    def tell(
        self,
        artist: Any,
        texts: Sequence[str] = (),
        *,
        css: str = "mark",
        rows: Sequence[int] = (),
    ) -> None:
        """Say what an artist's marks tell when they are hovered.

        Args:
            artist: of Matplotlib, drawing as many marks as there are texts.
            texts: one a mark, or none.
            css: ``mark``; ``catch`` or ``catch-line`` for an area or a line that is itself unseen.
            rows: the row of each mark, if the drawing is cut into rows.
        """
        name = f"tip{len(self.tips)}"
        artist.set_gid(name)
        self.tips[name] = Tip(tuple(texts), css, tuple(rows))

    def lines(self, axes: Any, lines: Sequence[Line], **told: Any) -> None:
        """Lines as one artist, which Matplotlib draws faster than many.

        Args:
            axes: whose limits are left as they are.
            lines: in the order of ``told``.
            told: as in ``tell``.
        """
        from matplotlib.collections import LineCollection

        found = LineCollection(
            [line.points for line in lines],
            colors=[line.paint for line in lines],
            linewidths=[line.width for line in lines],
            linestyles=[line.dash for line in lines],
            zorder=3,
        )
        axes.add_collection(found, autolim=False)
        self.tell(found, **told)

    def shapes(self, axes: Any, shapes: Sequence[Points], **style: Any) -> Any:
        """Polygons as one artist; the axes' limits are left as they are."""
        from matplotlib.collections import PolyCollection

        found = PolyCollection(shapes, **style)
        axes.add_collection(found, autolim=False)
        return found


def numbered(axis: Any, *, most: int = 6, log: bool = False) -> None:
    """Round numbers as ticks of one of Matplotlib's axes, written as everywhere on the page."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    low, high = axis.get_view_interval()
    few = (1.0, 2.0, 5.0) if log and high / low < 40 else (1.0,)
    rounded = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])
    axis.set_major_locator(LogLocator(subs=few, numticks=most + 1) if log else rounded)
    axis.set_major_formatter(FuncFormatter(lambda value, _place: compact(value)))
    axis.minorticks_off()


Plot = Callable[[], Sheet]
"""Makes a drawing; called inside ``matplotlib_style``."""


@contextmanager
def matplotlib_style() -> Iterator[None]:
    """Matplotlib with the page's style, whatever a person's own settings are.

    The settings are the process's, so that two threads draw one after the other.
    """
    import matplotlib as mpl

    with _MATPLOTLIB, mpl.rc_context(), warnings.catch_warnings():
        # The page's reader has fonts for signs that Matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(_style())
        yield


def save_png(plot: Plot, path: Path) -> None:
    """Draw in the light theme's colours into a PNG; equal drawings give equal bytes."""
    with matplotlib_style():
        sheet = plot()
        sheet.figure.savefig(
            path,
            format="png",
            dpi=144,
            facecolor=colours()["paper"],
            bbox_inches="tight",
            pad_inches=0.12,
            metadata={"Software": None},
        )


def _style() -> Any:
    soft, rule = colour("soft"), colour("rule")
    return {
        "svg.fonttype": "none",  # text that can be searched, read out, and set in the page's font
        "svg.hashsalt": "paraknow",
        "text.parse_math": False,  # a name may hold a dollar sign
        "font.family": ["DejaVu Sans"],  # comes with Matplotlib: the same on every machine
        "font.size": SMALL,
        "text.color": colour("ink"),
        "axes.edgecolor": rule,
        "axes.labelcolor": soft,
        "axes.labelsize": SMALL,
        "axes.titlesize": SMALL,
        "axes.titlecolor": soft,
        "axes.titlelocation": "left",
        "axes.titlepad": 7.0,
        "axes.labelpad": 4.0,
        "axes.facecolor": "none",
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.xmargin": 0.02,
        "axes.unicode_minus": True,
        "grid.color": rule,
        "grid.linewidth": 0.8,
        "figure.facecolor": "none",
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        **{f"axes.spines.{side}": False for side in ("left", "right", "top", "bottom")},
        **{f"{axis}tick.major.size": 0.0 for axis in "xy"},
        "lines.solid_joinstyle": "round",
    }
