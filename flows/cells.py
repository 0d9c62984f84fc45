"""The cells of a comparison, in this process; the flow ``compare-cells`` is a part of them.

It is what a comparison whose ``fan_out`` names a deployment has workers run: one pair, on one task
or on all, without a report.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from prefect import flow, get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.states import Failed
from pydantic import BaseModel

from artifacts.live import keeping
from flows.config.cells import PairConfig, TaskConfig
from flows.config.compare import CompareConfig
from flows.graph.arm import Arm, ArmOutcome, reason_of, run_arm
from flows.graph.cell import Cell, CellOutcome
from flows.graph.pair import ModelPair
from flows.graph.runner import PrefectRunner
from flows.graph.shared_steps import Once
from flows.graph.side_by_side import Precedence, in_turn, side_by_side, turns
from paraknow_core.errors import ConfigError
from tasks.engine.stage import Stage
from tasks.engine.workers import WorkerPool, worker_pool

T = TypeVar("T")

CellPlace = tuple[PairConfig, TaskConfig]
"""A pair and a task."""


class ComputedCells(BaseModel):
    """How many results a run of some cells has, and how many of them failed."""

    results: int
    failed: int


@flow(name="compare-cells", persist_result=False)
def compare_cells(
    config: CompareConfig, pair: str, task: str = ""
) -> ComputedCells | State[ComputedCells]:
    """Compute a pair of a comparison, which looks its results up and reports them.

    Args:
        config: the whole comparison; its slots are those of this run.
        pair: name of the pair.
        task: name of the task; empty: all tasks.
    """
    with keeping():
        get_run_logger().info("store %s", config.run.open_store().root)
        outcomes = run_cells(config, cells_of(config, pair, task))
    arms, seeds = len(config.arms), len(config.seeds)
    failed = sum(outcome.failed(arms=arms, seeds=seeds) for outcome in outcomes)
    found = ComputedCells(results=arms * seeds * len(outcomes), failed=failed)
    reason = next((outcome.first_reason for outcome in outcomes if outcome.first_reason), "")
    return _ended(found, failed, found.results, reason)


def cells_of(config: CompareConfig, pair: str, task: str = "") -> list[CellPlace]:
    """Return a pair of a comparison with one task, or with all.

    Raises:
        ConfigError: if the comparison has no such pair or task.
    """
    found = [c for c in config.cells() if c[0].name == pair and task in ("", c[1].name)]
    if not found:
        known = ", ".join(f"{one.name} on {other.name}" for one, other in config.cells())
        raise ConfigError(f"the comparison has no {pair} on {task or 'any task'}; it has {known}")
    return found


def run_cells(config: CompareConfig, cells: Sequence[CellPlace] | None = None) -> list[CellOutcome]:
    """Compute cells of a comparison in the present flow run, in the slots that it has.

    Args:
        config: of the comparison.
        cells: pairs and tasks of it; by default all.
    """
    chosen = list(config.cells()) if cells is None else cells
    slots = config.slots
    at_once = slots.cpu + len(slots.gpus)
    with worker_pool(WorkerPool(cpu=slots.cpu, gpus=slots.gpus)) as pool, turns(at_once):
        calls = [partial(_cell, config, pair, task) for pair, task in chosen]
        return side_by_side(calls, at_once=at_once, on_interrupt=pool.close)


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
    place = list(config.cells()).index((pair, task))

    def run_arms(arms: Sequence[Arm], acquired: ModelPair) -> list[ArmOutcome]:
        calls = [partial(_arm, config, arm, acquired, (place, n)) for n, arm in enumerate(arms)]
        return side_by_side(calls, at_once=len(calls))  # what computes waits for its turn

    after = partial(in_turn, place=(place, len(config.arms)))
    outcome = Cell(config, pair, task).run(do, run_arms, after)
    outcome.refs = do.finished()
    arms, seeds = len(config.arms), len(config.seeds)
    failed = outcome.failed(arms=arms, seeds=seeds)
    return _ended(CellAnswer(outcome), failed, arms * seeds, outcome.first_reason)


def _ended(answer: T, failed: int, results: int, reason: str) -> T | State[T]:
    """Return what a flow run ends with: its answer, in a state that is red where results failed."""
    if failed == 0:
        return answer
    name = "SomeFailed" if failed < results else "Failed"
    return Failed(name=name, message=f"{failed} of {results} results failed: {reason}", data=answer)


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
