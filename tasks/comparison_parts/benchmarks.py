"""What the methods of a cell score on the benchmarks of lm-evaluation-harness."""

from collections.abc import Sequence
from pathlib import Path

from paraknow_core.methods import METHODS, VANILLA
from paraknow_core.report.benchmarks import BenchmarkRow
from tasks.comparison_parts.config import CellReport, ComparisonConfig, arm_role, cell_role
from tasks.engine.step import Job
from tasks.harness.reported import benchmark_role, benchmarks_of


def benchmark_rows(job: Job[ComparisonConfig], number: int) -> tuple[BenchmarkRow, ...]:
    """Put the scores of a cell's methods side by side; nothing where no benchmark was measured.

    Means are over the seeds that have a result.
    """
    cell = job.config.cells[number]
    found = {title: _scores(job, number, which) for which, title in enumerate(cell.benchmarks)}
    method, against = _compared(cell)
    return tuple(benchmarks_of(found, method=method, against=against))


def _scores(job: Job[ComparisonConfig], number: int, which: int) -> dict[str, Sequence[Path]]:
    vanilla = job.inputs.get(cell_role(number, benchmark_role(which, VANILLA)))
    found: dict[str, Sequence[Path]] = {VANILLA: [vanilla] if vanilla else []}
    for place, arm in enumerate(job.config.cells[number].arms):
        roles = (
            arm_role(number, place, benchmark_role(which, "score"), seed) for seed in arm.seeds
        )
        found[arm.name] = [job.inputs[role] for role in roles if role in job.inputs]
    return found


def _compared(cell: CellReport) -> tuple[str, tuple[str, ...]]:
    """The first transfer of a cell, and what it has to beat: its baseline, and no training."""
    transfer = next((arm for arm in cell.arms if METHODS[arm.start].is_transfer), None)
    if transfer is None:
        return "", ()
    baseline = METHODS[transfer.start].baseline
    others = [arm.name for arm in cell.arms if arm.start == baseline]
    return transfer.name, (*others[:1], VANILLA)
