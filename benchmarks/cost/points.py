"""The measured points of ``docs/cost.md``: made by ``measure``, kept as a table."""

import csv
import ctypes
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, fields, replace
from pathlib import Path

from benchmarks.measure import peak_growth
from flows.calibration.measure import Sample, measure_steps
from flows.calibration.shapes import UNSEEN, Shape, all_shapes
from paraknow_core.inspection.work import Work
from tasks.engine.run import RunConfig

FOLDER = Path(__file__).parents[2] / "docs" / "cost"
POINTS = FOLDER / "points.csv"
_SHAPE = [field.name for field in fields(Shape)]
_WORK = [field.name for field in fields(Work)]
_NAMES = ("step", *_SHAPE, *_WORK, "cpu", "wall", "memory", "estimated")


def measure(passes: int = 3) -> None:
    """Measure every shape on one thread of the CPU, and write the points; Linux with glibc.

    Args:
        passes: over all shapes, so that what else the machine does for a while meets each of them
            once at most. Medians are written as they come: one that is stopped leaves what it has.
    """
    import torch

    torch.set_num_threads(1)
    run = RunConfig(device="cpu", threads=1)
    list(measure_steps([Shape(64, 2, 16, 8, 4, 1024)], run, dtype="float32"))  # imports
    found: dict[tuple[Shape, str], list[Sample]] = {}
    for _ in range(passes):
        shapes = [*all_shapes(), *UNSEEN]
        for sample in measure_steps(shapes, run, dtype="float32", peak=_peak):
            found.setdefault((sample.shape, sample.step), []).append(sample)
            write([_median(each) for each in found.values()], POINTS)


def _median(samples: Sequence[Sample]) -> Sample:
    return replace(
        samples[0],
        cpu=statistics.median(one.cpu for one in samples),
        wall=statistics.median(one.wall for one in samples),
        memory=max(one.memory for one in samples),
    )


def _peak(call: Callable[[], object]) -> int:
    """As ``peak_growth``, after what earlier steps have freed was handed back to the system."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return peak_growth(call)


def write(samples: Iterable[Sample], path: Path) -> None:
    """Write points, one a line, numbers with four digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_NAMES)
        for one in samples:
            times = (f"{one.cpu:.4g}", f"{one.wall:.4g}", one.memory, one.estimated)
            work = [f"{value:.6g}" for value in astuple(one.work)]
            rows.writerow((one.step, *astuple(one.shape), *work, *times))


def read(path: Path = POINTS) -> list[Sample]:
    """Read what ``write`` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Sample(
                Shape(**{name: int(row[name]) for name in _SHAPE}),
                row["step"],
                Work(**{name: float(row[name]) for name in _WORK}),
                float(row["cpu"]),
                float(row["wall"]),
                int(row["memory"]),
                int(row["estimated"]),
            )
            for row in csv.DictReader(file)
        ]


def of_step(samples: Sequence[Sample], step: str, shapes: Sequence[Shape]) -> list[Sample]:
    """Return a step's points of these shapes, in their order."""
    found = {one.shape: one for one in samples if one.step == step}
    return [found[shape] for shape in shapes if shape in found]
