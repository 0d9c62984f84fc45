"""The flow ``compare``: many pairs × tasks × methods × seeds, with shared upstream work."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from prefect import flow, get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.states import Failed

from artifacts.live import keeping
from flows.config.compare import CompareConfig, PairConfig, TaskConfig
from flows.config.load import with_overrides
from flows.graph.arm import Arm, ArmOutcome, reason_of, run_arm
from flows.graph.cell import Cell, CellOutcome
from flows.graph.pair import ModelPair
from flows.graph.runner import PrefectRunner
from flows.graph.shared_steps import Once
from flows.graph.side_by_side import Precedence, in_turn, side_by_side, turns
from flows.operation.names import run_name
from flows.planning.compare import make_compare_plan
from flows.results.conclude import CompareResult, conclude
from flows.results.report_inputs import start_report
from flows.results.shown import show_comparison
from flows.results.verdict_events import tell_changed_verdicts
from tasks.engine.stage import Stage
from tasks.engine.workers import WorkerPool, worker_pool


@flow(name="compare", flow_run_name=run_name, persist_result=False)
def compare(
    config: CompareConfig, overrides: dict[str, Any] | None = None
) -> CompareResult | State[CompareResult]:
    """Compare methods and controls on many pairs and tasks, each at its own learning rate.

    What fails is reported with its reason, the rest goes on; a re-run does only what is missing.

    Args:
        config: pairs, tasks, methods, controls, learning rates, seeds, budget and slots.
        overrides: settings that differ from config, with dots: {"settings.lora.rank": 4}.
    """
    with keeping():
        result = _compare(with_overrides(config, overrides))
    if result.failed or result.report_failure:
        message = f"{result.failed} of {result.results} results failed"
        message += "; there is no report" if result.report_failure else "; the report says why"
        # Of the type Failed: a list of runs, an automation and --watch take it for no success.
        return Failed(name="SomeFailed", message=message, data=result)
    return result


def _compare(config: CompareConfig) -> CompareResult:
    config.check()
    get_run_logger().info("store %s", config.run.open_store().root)
    make_compare_plan(config).check(config.budget)
    slots = config.slots
    at_once = slots.cpu + len(slots.gpus)
    with worker_pool(WorkerPool(cpu=slots.cpu, gpus=slots.gpus)) as pool, turns(at_once):
        calls = [partial(_cell, config, pair, task) for pair, task in config.cells()]
        outcomes = side_by_side(calls, at_once=at_once, on_interrupt=pool.close)
        do = PrefectRunner(config.run, Stage.REPORT)
        result = conclude(config, outcomes, lambda: start_report(config, outcomes, do))
    show_comparison(config, result)
    tell_changed_verdicts(result)
    return result


def finished(state: State[Any]) -> CompareResult:
    """Return what a comparison gave, also where some of it failed."""
    result = state.result(raise_on_failure=False)
    if not isinstance(result, CompareResult):
        result = state.result()  # raises what ended it
    assert isinstance(result, CompareResult)  # noqa: S101 - a State of it is what compare returns
    return result


class CellAnswer:
    """What a pair's sub-flow returns.

    Prefect looks into what it knows (dicts, dataclasses, models) for what later tasks are given,
    and would draw arrows from equal short texts; into an object of this class it does not look.
    """

    def __init__(self, outcome: CellOutcome) -> None:
        """Hold an outcome."""
        self.outcome = outcome


def _cell(config: CompareConfig, pair: PairConfig, task: TaskConfig) -> CellOutcome:
    """Run a pair's sub-flow; whatever fails outside of its steps fails that pair alone."""
    found: list[CellOutcome] = []

    def run_pair() -> None:
        with tags(f"pair {pair.name}", f"task {task.name}"):
            state = compare_pair(config, pair, task, return_state=True)
        answer = state.result(raise_on_failure=False)
        if not isinstance(answer, CellAnswer):
            answer = state.result()  # raises what ended it
        assert isinstance(answer, CellAnswer)  # noqa: S101 - a State of it is what the flow returns
        found.append(answer.outcome)

    reason = reason_of(run_pair)
    return found[0] if found else CellOutcome(pair, task, reason=reason)


@flow(name="compare-pair", flow_run_name="{pair.name} on {task.name}", persist_result=False)
def compare_pair(
    config: CompareConfig, pair: PairConfig, task: TaskConfig
) -> CellAnswer | State[CellAnswer]:
    """Compare the methods on one pair and task."""
    do = PrefectRunner(config.run, Stage.REPORT)

    def run_arms(arms: Sequence[Arm], acquired: ModelPair) -> list[ArmOutcome]:
        place = list(config.cells()).index((pair, task))
        calls = [partial(_arm, config, arm, acquired, (place, n)) for n, arm in enumerate(arms)]
        return side_by_side(calls, at_once=len(calls))  # what computes waits for its turn

    outcome = Cell(config, pair, task).run(do, run_arms)
    outcome.refs = do.finished()
    arms, seeds = len(config.arms), len(config.seeds)
    failed, results = outcome.failed(arms=arms, seeds=seeds), arms * seeds
    if failed == 0:
        return CellAnswer(outcome)
    name = "SomeFailed" if failed < results else "Failed"
    message = f"{failed} of {results} results failed: {outcome.first_reason}"
    return Failed(name=name, message=message, data=CellAnswer(outcome))


def _arm(config: CompareConfig, arm: Arm, acquired: ModelPair, place: Precedence) -> ArmOutcome:
    """Tune one method's learning rate on validation, then measure its seeds on test.

    Its tasks belong to the pair's flow run. A sub-flow for each method would be a request to
    Prefect's server amid the events of the others' tasks, which SQLite answers with "locked" and
    the client repeats seconds, sometimes minutes later.
    """
    do = PrefectRunner(config.run, Stage.REPORT)
    pair = replace(acquired, config=arm.settings, do=Once(do))
    together = partial(in_turn, place=place)
    found: list[ArmOutcome] = []
    with tags(f"method {arm.config.name}"):  # its tasks can be filtered by it
        reason = reason_of(lambda: found.append(run_arm(arm, pair, do, together)))
    outcome = found[0] if found else ArmOutcome(arm.config.name, arm.config.start, reason=reason)
    outcome.refs = do.finished()
    return outcome
