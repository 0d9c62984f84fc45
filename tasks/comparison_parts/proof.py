"""What of the results speaks for the teacher, besides verdicts: start points at step 0, orders."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from paraknow_core.errors import DataError
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import on_test_split
from paraknow_core.report.page.outcome import Measure
from paraknow_core.report.page.proof import OrderLine, PairOrder, Untrained
from paraknow_core.statistics.proofs import PROOFS, MethodTrend, conclusion, corrected, rise
from paraknow_core.statistics.trend import trend
from tasks.comparison_parts.config import CellReport, ComparisonConfig, arm_role, cell_role
from tasks.comparison_parts.proof_config import OrderConfig

ItemsOf = Callable[[str], Sequence[Item] | None]
"""From an evaluation's role among a report's inputs to its items; None where it was not run."""


def untrained_of(config: ComparisonConfig, number: int, items: ItemsOf) -> tuple[Untrained, ...]:
    """Say what each start point of a cell scores without training, as far as it was measured."""
    cell = config.cells[number]
    metric = on_test_split(cell.primary)
    student = _score(items(cell_role(number, "vanilla")), metric)
    found = []
    for place, arm in enumerate(cell.arms):
        answers = [items(arm_role(number, place, "untrained", seed)) for seed in arm.seeds]
        values = tuple(_score(answer, metric) for answer in answers if answer is not None)
        known = [value for value in values if value is not None]
        if values:
            mean = fmean(known) if len(known) == len(values) else None
            better = sum(student is not None and metric.is_better(v - student) for v in known)
            found.append(
                Untrained(method=arm.name, mean=mean, values=values, student=student, better=better)
            )
    return tuple(found)


def orders_of(config: ComparisonConfig, items: ItemsOf) -> tuple[PairOrder, ...]:
    """Put together every declared order of pairs, on every task."""
    tasks = dict.fromkeys(cell.task for cell in config.cells)
    return tuple(
        _order(config, items, order, task) for order in config.proof.orders for task in tasks
    )


def _order(config: ComparisonConfig, items: ItemsOf, order: OrderConfig, task: str) -> PairOrder:
    kind = PROOFS.choose(order.kind)
    places = {cell.pair: n for n, cell in enumerate(config.cells) if cell.task == task}
    cells = {pair: config.cells[places[pair]] for pair in order.pairs}
    metric = on_test_split(next(iter(cells.values())).primary)
    empty = PairOrder(
        kind=order.kind,
        title=kind.title,
        question=kind.question,
        order=kind.order,
        task=task,
        metric=Measure.of(metric),
        pairs=order.pairs,
    )
    failed = [f"{pair} ({cell.failure})" for pair, cell in cells.items() if cell.failure]
    if failed:
        return replace(empty, missing=f"Nothing was compared on {'; '.join(failed)}.")
    teachers = tuple(
        _score(items(cell_role(places[pair], "teacher-items")), metric) for pair in order.pairs
    )
    found = corrected([_along(items, places, cells, name, metric) for name in _shared(cells)])
    rising = rise(teachers, higher_is_better=metric.higher_is_better)
    return replace(
        empty,
        teachers=teachers,
        lines=tuple(
            OrderLine(
                method=one.name,
                means=one.trend.means if one.trend else (),
                seeds=one.trend.n if one.trend else 0,
                p=one.trend.p_value if one.trend else None,
                p_holm=one.p_holm,
                said=conclusion(kind, one, found, teachers_rise=rising),
            )
            for one in found
        ),
    )


def _shared(cells: Mapping[str, CellReport]) -> Iterator[tuple[str, str]]:
    """Name and start of every method that all pairs have."""
    first, *others = cells.values()
    for arm in first.arms:
        if all(any(arm.name == other.name for other in cell.arms) for cell in others):
            yield arm.name, arm.start


def _along(
    items: ItemsOf,
    places: Mapping[str, int],
    cells: Mapping[str, CellReport],
    named: tuple[str, str],
    metric: Metric,
) -> MethodTrend:
    name, start = named
    values = []
    for pair, cell in cells.items():
        place, arm = next((p, a) for p, a in enumerate(cell.arms) if a.name == name)
        scores = {
            seed: _score(items(arm_role(places[pair], place, "items", seed)), metric)
            for seed in arm.seeds
        }
        values.append({seed: score for seed, score in scores.items() if score is not None})
    try:
        return MethodTrend(name, start, trend(values, higher_is_better=metric.higher_is_better))
    except DataError:  # too few seeds are shared, and the sentence says so
        return MethodTrend(name, start, None)


def _score(items: Sequence[Item] | None, metric: Metric) -> float | None:
    """Pool the items of one evaluation; None where there is none, or no finite number."""
    if items is None:
        return None
    value = metric.pooled(items)
    return value if math.isfinite(value) else None
