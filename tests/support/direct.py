"""A transfer's steps one after another in this process, without Prefect."""

from collections.abc import Mapping
from typing import Any

from flows.config.transfer import TransferConfig
from flows.graph.runner import Handle, known_folders, known_locations
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
