"""The flow ``compare``: many pairs × tasks × methods × seeds, with shared upstream work."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.arms import Pair
from flows.beside import side_by_side
from flows.cells import Cell, CellOutcome
from flows.compare_config import ArmConfig, CompareConfig, PairConfig, TaskConfig
from flows.compare_plan import make_compare_plan
from flows.compare_report import CompareResult, conclude
from flows.once import Once
from flows.runner import Handle, PrefectRunner
from flows.stages import Stage
from flows.trials import Arm, ArmOutcome, reason_of, run_arm
from tasks.refs import Ref
from tasks.workers import WorkerPool, worker_pool

ACQUIRED = ("teacher", "student", "data")
"""What all methods of a pair and task share, by its role."""


@flow(name="compare", flow_run_name="{config.name}", persist_result=False)
def compare(config: CompareConfig) -> CompareResult | State[CompareResult]:
    """Compare methods and controls on many pairs and tasks, each at its own learning rate.

    What fails is reported with its reason, the rest goes on; a re-run does only what is missing.

    Args:
        config: pairs, tasks, methods, controls, learning rates, seeds, budget and slots.
    """
    config.check()
    get_run_logger().info("store %s", config.run.open_store().root)
    make_compare_plan(config).check(config.budget)
    slots = config.slots
    with worker_pool(WorkerPool(cpu=slots.cpu, gpus=slots.gpus)) as pool:
        calls = [partial(compare_pair, config, pair, task) for pair, task in config.cells()]
        at_once = slots.cpu + len(slots.gpus)
        outcomes = side_by_side(calls, at_once=at_once, on_interrupt=pool.close)
        result = conclude(config, outcomes, PrefectRunner(config.run, Stage.REPORT))
    if result.failed:
        message = f"{result.failed} of {result.results} results failed; the report says why"
        return Completed(name="SomeFailed", message=message, data=result)
    return result


def finished(state: State[Any]) -> CompareResult:
    """Return what a comparison gave, also where some of it failed."""
    result = state.result()
    assert isinstance(result, CompareResult)  # noqa: S101 - a State of it is what compare returns
    return result


@flow(name="compare-pair", flow_run_name="{pair.name} on {task.name}", persist_result=False)
def compare_pair(config: CompareConfig, pair: PairConfig, task: TaskConfig) -> CellOutcome:
    """Compare the methods on one pair and task."""
    do = PrefectRunner(config.run, Stage.REPORT)

    def run_arms(arms: Sequence[Arm], acquired: Pair) -> list[ArmOutcome]:
        shared = {role: ref for role in ACQUIRED if (ref := getattr(acquired, role).ref)}
        calls = [partial(_arm, config, pair, task, arm.config, shared) for arm in arms]
        return side_by_side(calls, at_once=config.slots.cpu + len(config.slots.gpus))

    outcome = Cell(config, pair, task).run(do, run_arms)
    outcome.refs = do.finished()
    return outcome


def _arm(
    config: CompareConfig,
    pair: PairConfig,
    task: TaskConfig,
    arm: ArmConfig,
    shared: dict[str, Ref],
) -> ArmOutcome:
    """Run a method's sub-flow; whatever fails outside of its cells fails that method alone."""
    found: list[ArmOutcome] = []
    reason = reason_of(lambda: found.append(compare_arm(config, pair, task, arm, shared)))
    return found[0] if found else ArmOutcome(arm.name, arm.start, reason=reason)


@flow(name="compare-method", flow_run_name="{arm.name}", persist_result=False)
def compare_arm(
    config: CompareConfig,
    pair: PairConfig,
    task: TaskConfig,
    arm: ArmConfig,
    shared: dict[str, Ref],
) -> ArmOutcome:
    """Tune one method's learning rate on validation, then measure its seeds on test."""
    do = PrefectRunner(config.run, Stage.REPORT)
    method = Cell(config, pair, task).arm(arm)
    acquired = {role: Handle(role, known=shared[role]) for role in ACQUIRED}
    outcome = run_arm(method, Pair(method.settings, Once(do), **acquired), do)
    outcome.refs = do.finished()
    return outcome
