"""The steps of a transfer or comparison one after another in this process, without Prefect."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from artifacts.names import StepKey
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.arm import Arm, ArmOutcome, run_arm
from flows.graph.cell import Cell, CellOutcome
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle, known_folders, known_locations
from flows.graph.shared_steps import Once
from flows.graph.transfer_steps import wire
from tasks.checks.preflight import Check
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.stage import Stage
from tasks.engine.step import Step


class DirectRunner:
    """Runs each step as soon as it is asked for."""

    def __init__(self, run: RunConfig, until: Stage) -> None:
        self.run, self.until = run, until
        self.refs: dict[str, Ref] = {}

    def __call__(self, step: Step[Any], config: Any, *, label: str, **inputs: Handle) -> Handle:
        handle = Handle(label)
        if step.stage.is_within(self.until):
            given = {role: ref for role, handle in inputs.items() if (ref := handle.ref)}
            handle.known = run_step(step, label=label, config=config, inputs=given, run=self.run)
            self.refs[label] = handle.known
        return handle

    start = __call__

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        if before is not None and not before.stage.is_within(self.until):
            return
        check(known_folders(self.run, inputs), known_locations(inputs))


def run_direct(settings: dict[str, Any], until: Stage = Stage.REPORT) -> dict[str, Ref]:
    """Run a transfer; returns label → output of every step."""
    config = TransferConfig.model_validate(settings)
    runner = DirectRunner(config.run, until)
    wire(config, runner)
    return runner.refs


def computed(refs: dict[str, Ref]) -> set[str]:
    """The labels of those steps that were not hits."""
    return {label for label, ref in refs.items() if not ref.cached}


class DirectTrialRunner(DirectRunner):
    """The same for a comparison."""

    plans = False

    def facts(self, handle: Handle) -> Mapping[str, Any]:
        record = handle.ref and self.run.open_store().lookup(StepKey(handle.ref.key))
        return dict(record.facts) if record else {}

    def undecided(self, undecided: bool) -> AbstractContextManager[None]:
        return nullcontext()


def compare_direct(config: CompareConfig) -> list[CellOutcome]:
    """Compute all cells of a comparison."""
    do = DirectTrialRunner(config.run, Stage.REPORT)

    def run_arms(arms: Sequence[Arm], acquired: ModelPair) -> list[ArmOutcome]:
        return [
            run_arm(arm, replace(acquired, config=arm.settings, do=Once(do)), do) for arm in arms
        ]

    return [Cell(config, pair, task).run(do, run_arms) for pair, task in config.cells()]
