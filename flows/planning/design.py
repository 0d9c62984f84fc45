"""What a comparison's seeds and test items can show, told before any of them is run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flows.config.cells import TaskConfig
from flows.config.compare import CompareConfig
from flows.graph.cell import CellOutcome
from flows.planning.planner import PlannedStep
from flows.results.report_inputs import epochs_of, loss_of
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import metrics_of
from paraknow_core.report.page.text import percent
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.design import out_of_reach
from paraknow_core.statistics.judge import family
from paraknow_core.statistics.visible_items import DISAGREEING, visible_share
from tasks.checks.benchmarks import count_right_or_wrong
from tasks.engine.estimates import Foreseen, rows_of


def blind_spots(config: CompareConfig) -> list[str]:
    """Say what a comparison cannot show, however its numbers come out; empty if nothing.

    The sign-flip test's smallest p depends on the number of seeds alone, and Holm's correction on
    the number of comparisons: of one pair and task, and of all of them together.
    """
    arms = [
        ArmResult(a.name, a.start, {}, loss=loss_of(config, a), epochs=epochs_of(config, a))
        for a in config.arms
    ]
    transfer = next((arm for arm in arms if arm.method.is_transfer), None)
    if transfer is None:
        return []
    asked = len(family(transfer, [arm for arm in arms if arm is not transfer]))
    seeds, cells = len(config.seeds), sum(1 for _ in config.cells())
    told = out_of_reach(seeds, family=asked) if asked else ""
    if told:
        return [f"{told[0].upper()}{told[1:]}."]
    if cells > 1 and (told := out_of_reach(seeds, family=asked * cells)):
        return [f"Of all {cells} cells together: {told}."]
    return []


@dataclass(frozen=True)
class Counted:
    """How many items a task has, where a plan has them; 0: it has not.

    Attributes:
        rows: of the test split.
        questions: of the benchmark that the verdict is about, if its answers are right or wrong.
    """

    rows: int = 0
    questions: int = 0


def visible_by_items(
    config: CompareConfig, counted: Mapping[str, Counted] | None = None
) -> list[str]:
    """Say how small a difference in shares of right answers each task's test items can show.

    For every measured metric that is right or wrong of each item; a sentence each.

    Args:
        config: the comparison.
        counted: name of a task → its items. Without its test rows what the settings say is taken;
            where that is ``all``, what they foresee. How many rows a file has, or questions a
            benchmark, is not known before they are read.
    """
    told: list[str] = []
    for task in config.tasks:
        found = (counted or {}).get(task.name) or Counted()
        rows, how = found.rows or _test_rows(task), config.evaluation(task)
        for metric in metrics_of(how.metrics, how.primary):
            if metric.source and found.questions:
                told += _visible(task.name, found.questions, "questions", metric)
            elif metric.is_binary and rows:
                told += _visible(task.name, rows, "test items", metric)
    return told


def _visible(task: str, items: int, what: str, metric: Metric) -> Iterator[str]:
    least = [
        f"{percent(share)} where two models disagree on {percent(apart)} of the items"
        for apart in DISAGREEING
        if (share := visible_share(items, disagreeing=apart)) is not None
    ]
    if least:
        yield (
            f"{task}: {items} {what} show a difference in {metric.label} of "
            f"{', of '.join(least)} (McNemar's test, in 80 of 100 repetitions)."
        )


def counted_items(config: CompareConfig, outcomes: Sequence[CellOutcome]) -> dict[str, Counted]:
    """Count each task's test rows and questions, where a plan has them."""
    return {
        outcome.task.name: Counted(_rows(outcome), _questions(config, outcome))
        for outcome in outcomes
    }


def _rows(outcome: CellOutcome) -> int:
    data = outcome.shared and outcome.shared.data
    if not isinstance(data, PlannedStep) or data.folder is None:
        return 0
    return rows_of(Foreseen({"data": data.folder}), "test") or 0


def _questions(config: CompareConfig, outcome: CellOutcome) -> int:
    """Questions of the benchmark that the verdict is about, if each is right or wrong."""
    how = config.evaluation(outcome.task)
    place = how.primary_benchmark
    if place is None or place >= len(outcome.benchmarks):
        return 0
    asked = outcome.benchmarks[place]
    if not isinstance(asked.tasks, PlannedStep) or asked.tasks.folder is None:
        return 0
    return count_right_or_wrong(asked.tasks.folder, how.primary, limit=asked.config.limit)


def _test_rows(task: TaskConfig) -> int | None:
    if task.problems:
        return task.problems.sizes.test
    return task.data.foresee()["test"]["rows"]
