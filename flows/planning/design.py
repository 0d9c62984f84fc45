"""What a comparison's seeds and test items can show, told before any of them is run."""

from collections.abc import Mapping, Sequence
from operator import attrgetter

from flows.config.cells import TaskConfig
from flows.config.compare import CompareConfig
from flows.graph.cell import CellOutcome
from flows.planning.planner import PlannedStep
from flows.results.report_inputs import epochs_of, loss_of
from paraknow_core.evaluation.metrics import metrics_of
from paraknow_core.report.page.text import percent
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.design import out_of_reach
from paraknow_core.statistics.judge import family
from paraknow_core.statistics.visible_items import DISAGREEING, visible_share
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


def visible_by_items(config: CompareConfig, counted: Mapping[str, int] | None = None) -> list[str]:
    """Say how small a difference in shares of right answers each task's test items can show.

    For every measured metric that is right or wrong of each item; a sentence each.

    Args:
        config: the comparison.
        counted: name of a task → its test rows, where they are here. Otherwise what the settings
            say is taken; where that is ``all``, what they foresee.
    """
    told = []
    for task in config.tasks:
        items = (counted or {}).get(task.name) or _test_rows(task)
        if not items:
            continue  # how many rows a file has is not known before it is read
        how = config.evaluation(task)
        for metric in filter(attrgetter("is_binary"), metrics_of(how.metrics, how.primary)):
            least = [
                f"{percent(share)} where two models disagree on {percent(apart)} of the items"
                for apart in DISAGREEING
                if (share := visible_share(items, disagreeing=apart)) is not None
            ]
            if least:
                told.append(
                    f"{task.name}: {items} test items show a difference in {metric.label} of "
                    f"{', of '.join(least)} (McNemar's test, in 80 of 100 repetitions)."
                )
    return told


def counted_rows(outcomes: Sequence[CellOutcome]) -> dict[str, int]:
    """Count each task's test rows, where a plan has them."""
    found = {}
    for outcome in outcomes:
        data = outcome.shared and outcome.shared.data
        if isinstance(data, PlannedStep) and data.folder:
            rows = rows_of(Foreseen({"data": data.folder}), "test")
            found[outcome.task.name] = rows or 0
    return found


def _test_rows(task: TaskConfig) -> int | None:
    if task.problems:
        return task.problems.sizes.test
    return task.data.foresee()["test"]["rows"]
