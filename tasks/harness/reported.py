"""What benchmarks found, read from the store and put side by side for a report."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from paraknow_core.errors import DataError
from paraknow_core.evaluation.benchmarks.scores import (
    SCORES,
    BenchmarkScore,
    items_of,
    metric_of,
    read_scores,
    score_of,
)
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import VALUE, Metric, as_measured
from paraknow_core.report.benchmarks import BenchmarkDifference, BenchmarkMean, BenchmarkRow
from paraknow_core.statistics.paired_items import paired_difference
from tasks.engine.json_files import read_json

Results = Mapping[str, Sequence[Path]]
"""Method → folder of each seed's result on one benchmark; all have the same seeds, or just one."""


def benchmark_role(number: int, arm: str) -> str:
    """Name the input of a report that holds one benchmark's result of an arm."""
    return f"benchmark{number}-{arm}"


def benchmark_items(folder: Path, metric: Metric) -> list[Item]:
    """Read each question's value of a benchmark's metric.

    Raises:
        DataError: if the benchmark has no such metric, or it is no mean over questions.
    """
    score = score_of(read_scores(folder), metric)
    found = items_of(folder, score)
    if not found:
        raise DataError(
            f"{metric.name} is no mean over the questions of the benchmark, so models cannot be "
            "compared question by question; take another primary metric"
        )
    return found


def primary_items(
    folders: Mapping[str, Path], metric: Metric
) -> tuple[Metric, dict[str, Sequence[Item]]]:
    """Read the questions that a benchmark's metric is measured on, of several models.

    Args:
        folders: model → its result.
        metric: as its name tells it.

    Returns:
        The metric as the results tell it, and model → items.

    Raises:
        DataError: as ``benchmark_items``.
    """
    found: dict[str, Sequence[Item]] = {
        name: benchmark_items(folder, metric) for name, folder in folders.items()
    }
    values = [item.measured[VALUE] for items in found.values() for item in items]
    scores = [score_of(read_scores(folder), metric) for folder in folders.values()]
    is_loss = not all(score.higher_is_better for score in scores)
    return as_measured(metric, values, higher_is_better=not is_loss), found


def benchmarks_of(
    benchmarks: Mapping[str, Results], *, method: str, against: Sequence[str]
) -> list[BenchmarkRow]:
    """Put the scores of methods side by side, and compare one with others.

    Args:
        benchmarks: title → results.
        method: that the report is about; one without a result is compared with nothing.
        against: what it is compared with.
    """
    return [
        row
        for title, runs in benchmarks.items()
        for row in _rows(title, {name: of for name, of in runs.items() if of}, method, against)
    ]


def _rows(title: str, runs: Results, method: str, against: Sequence[str]) -> list[BenchmarkRow]:
    if not runs:
        return []
    found = {name: [_by_name(read_scores(folder)) for folder in of] for name, of in runs.items()}
    first = next(iter(runs.values()))[0]
    harness = str(read_json(first / SCORES)["lm_eval"])
    rows = []
    for key, score in next(iter(found.values()))[0].items():
        known = {name: [one[key] for one in of if key in one] for name, of in found.items()}
        others = [one for one in against if one in runs] if method in runs and score.is_root else []
        compared = [_difference(runs, score, method, other) for other in others]
        rows.append(
            BenchmarkRow(
                benchmark=title,
                task=score.task,
                metric=score.metric,
                filter=score.filter,
                items=score.items,
                shots=score.shots,
                version=score.version,
                harness=harness,
                higher_is_better=score.higher_is_better,
                is_root=score.is_root,
                scores=tuple(_mean(name, of) for name, of in known.items()),
                differences=tuple(one for one in compared if one is not None),
            )
        )
    return rows


def _by_name(scores: Sequence[BenchmarkScore]) -> dict[tuple[str, str], BenchmarkScore]:
    return {(score.task, score.name): score for score in scores}


def _mean(name: str, scores: Sequence[BenchmarkScore]) -> BenchmarkMean:
    values = [score.value for score in scores]
    known = [value for value in values if value is not None]
    whole = bool(known) and len(known) == len(values)
    if len(known) > 1:
        spread: float | None = statistics.stdev(known)
    else:
        spread = scores[0].stderr if scores else None
    return BenchmarkMean(
        method=name,
        mean=statistics.fmean(known) if whole else None,
        values=tuple(values),
        spread=spread if whole else None,
    )


def _difference(
    runs: Results, score: BenchmarkScore, method: str, against: str
) -> BenchmarkDifference | None:
    a, b = (_over_seeds([items_of(folder, score) for folder in runs[n]]) for n in (method, against))
    if len(a) < 2 or len(a) != len(b):
        return None
    values = [item.measured[VALUE] for item in (*a, *b)]
    found = paired_difference(a, b, metric_of(score, values), seed=0)
    return BenchmarkDifference(
        method=method,
        against=against,
        mean=found.mean,
        low=found.low,
        high=found.high,
        p=found.p_value,
        n=found.n,
        visible=found.visible,
    )


def _over_seeds(seeds: Sequence[Sequence[Item]]) -> list[Item]:
    """Each question with its mean over the seeds; none where they are not the same questions."""
    names = [[item.id for item in items] for items in seeds]
    if any(one != names[0] for one in names):
        return []
    return [
        Item(of[0].id, "", "", 0.0, 0, "", "", "", False, {VALUE: _mean_of(of)})
        for of in zip(*seeds, strict=True)
    ]


def _mean_of(items: Sequence[Item]) -> float:
    return statistics.fmean(item.measured[VALUE] for item in items)
