"""Measure how long steps take here, and fit the laws that a plan's hours come from."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flows.calibration.measure import MEASURED, Sample, measure_steps
from flows.calibration.shapes import Shape
from flows.calibration.stored import Where, keep
from flows.inspection.needs import measured_rates
from paraknow_core.inspection.laws import Law, SlotRates, fit_law
from tasks.engine.run import RunConfig

SHAPES: Final = (
    Shape(128, 2, 32, 8, 4, 1024),
    Shape(512, 4, 32, 8, 16, 1024),
    Shape(128, 16, 64, 16, 8, 1024),
    Shape(256, 4, 256, 8, 8, 4096),
    Shape(256, 4, 32, 64, 8, 4096),
    Shape(192, 4, 64, 16, 32, 16_384),
    Shape(768, 6, 128, 16, 16, 8192),
    Shape(512, 8, 96, 32, 16, 4096),
)
"""Chosen so that no two terms of a law grow alike from one to the next."""
_WARM: Final = Shape(64, 2, 16, 8, 4, 1024)


def calibrate(
    run: RunConfig,
    dtype: str,
    *,
    shapes: Iterable[Shape] = SHAPES,
    repeats: int = 3,
    tell: Callable[[Shape], None] = lambda _shape: None,
) -> tuple[SlotRates, Path]:
    """Measure, fit, and keep what was found; returns it, and the file in which it is.

    Args:
        run: device and threads.
        dtype: that models are computed in.
        shapes: of the pairs that steps are measured on.
        repeats: of each measured step.
        tell: called before each shape.

    Raises:
        ParaknowError: as the steps raise it, or if there are too few shapes for a law.
    """
    where = Where(run.device_type(), run.thread_count(), dtype)
    found: list[Sample] = []
    list(measure_steps([_WARM], run, dtype=dtype))  # so that no shape pays for imports
    for shape in shapes:
        tell(shape)
        found += measure_steps([shape], run, dtype=dtype, repeats=repeats)
    base = measured_rates(dtype, where.threads, run.device)
    # On one thread of a CPU, other programs lengthen the clock's seconds, and not the process's.
    alone = where.device == "cpu" and where.threads == 1
    laws = laws_of(found, by_clock=not alone)
    rates = SlotRates(base.flops, base.flops64, base.bandwidth, "", laws)
    return rates, keep(where, f"{datetime.now(tz=UTC):%Y-%m-%d}", rates)


def laws_of(samples: Sequence[Sample], *, by_clock: bool = False) -> dict[str, Law]:
    """Fit each measured step's law.

    Args:
        samples: of several shapes.
        by_clock: whether the clock's seconds are taken, or those of the process on the CPU.
    """
    laws = {}
    for step in MEASURED:
        mine = [one for one in samples if one.step == step]
        taken = [one.wall if by_clock else one.cpu for one in mine]
        laws[step] = fit_law([one.work for one in mine], taken)
    return laws
