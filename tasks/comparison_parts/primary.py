"""What a cell's verdict is about, and on what that is measured: test rows, or a benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from paraknow_core.evaluation.benchmarks.scores import read_scores, score_of
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import VALUE, Metric, as_measured
from paraknow_core.evaluation.metrics import METRICS
from tasks.comparison_parts.config import CellReport, ComparisonConfig, arm_role
from tasks.comparison_parts.proof import ItemsOf
from tasks.engine.step import Job
from tasks.harness.reported import benchmark_items, benchmark_role


@dataclass(frozen=True)
class Primary:
    """A cell's primary metric.

    Attributes:
        metric: complete, as far as there are results.
        asked: of each method, in their order: seed → the benchmark's questions as items; empty
            where the metric is measured on the test split.
    """

    metric: Metric
    asked: tuple[Mapping[int, Sequence[Item]], ...] = ()

    def asked_of(self, place: int) -> Mapping[int, Sequence[Item]]:
        """Return the questions of one method."""
        return self.asked[place] if self.asked else {}


def primary_in(job: Job[ComparisonConfig], number: int) -> Primary:
    """Read a cell's primary metric, and what it is measured on, from the report's inputs.

    Raises:
        DataError: if the benchmark has no such metric.
    """
    cell = job.config.cells[number]
    metric = METRICS.choose(cell.primary)
    folders = [job.inputs[role] for *_, role in benchmark_roles(cell, number) if role in job.inputs]
    if not folders:
        return primary_of(cell, number, lambda _role: None)
    score = score_of(read_scores(folders[0]), metric)

    def items(role: str) -> Sequence[Item] | None:
        folder: Path | None = job.inputs.get(role)
        return None if folder is None else benchmark_items(folder, metric)

    return primary_of(cell, number, items, higher_is_better=bool(score.higher_is_better))


def primary_of(
    cell: CellReport, number: int, items: ItemsOf, *, higher_is_better: bool = True
) -> Primary:
    """Put a cell's primary metric and the items that it is measured on together.

    Args:
        cell: of a comparison.
        number: its place.
        items: of a role of ``benchmark_roles``.
        higher_is_better: as the benchmark's definition says.
    """
    metric = METRICS.choose(cell.primary)
    if not metric.source:
        return Primary(metric)
    asked: list[dict[int, Sequence[Item]]] = [{} for _arm in cell.arms]
    for place, seed, role in benchmark_roles(cell, number):
        if found := items(role):
            asked[place][seed] = found
    values = (item.measured[VALUE] for of in asked for found in of.values() for item in found)
    measured = as_measured(metric, values, higher_is_better=higher_is_better)
    return Primary(measured, tuple(asked))


def benchmark_roles(cell: CellReport, number: int) -> list[tuple[int, int, str]]:
    """Name the results of the benchmark that a cell's verdict is about; none if about no benchmark.

    Returns:
        Place of the method, seed, and the result's role among the report's inputs.
    """
    source = METRICS.choose(cell.primary).source
    if source not in cell.benchmarks:
        return []
    what = benchmark_role(cell.benchmarks.index(source), "score")
    return [
        (place, seed, arm_role(number, place, what, seed))
        for place, arm in enumerate(cell.arms)
        for seed in arm.seeds
    ]
