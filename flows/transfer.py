"""The flow ``transfer``: one teacher/student pair, end to end."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from pydantic import BaseModel, ConfigDict

from artifacts.live import keeping
from flows.config.load import with_overrides
from flows.config.transfer import TransferConfig
from flows.graph.runner import PrefectRunner
from flows.graph.transfer_steps import wire
from flows.operation.names import run_name
from flows.planning.transfer import make_plan
from flows.results.shown import show_transfer
from tasks.engine.json_files import read_json
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage


class StepResult(BaseModel):
    """One step of a run, as ``--json`` prints it."""

    model_config = ConfigDict(frozen=True)

    name: str
    step: str
    key: str
    artifact: str
    status: str
    seconds: float
    folder: str
    files: list[str]


class TransferResult(BaseModel):
    """What a run gave: its steps, and the report's numbers if it came that far."""

    model_config = ConfigDict(frozen=True)

    steps: list[StepResult]
    summary: dict[str, object] | None


@flow(name="transfer", flow_run_name=run_name, persist_result=False, log_prints=False)
def transfer(
    config: TransferConfig, until: Stage = Stage.REPORT, overrides: dict[str, Any] | None = None
) -> TransferResult:
    """Move knowledge from a teacher to a student through its parameters, and measure it.

    Every step's output is kept in the artifact store under a key of all that decides it; a step
    whose key is there is not computed again, whichever run or pair computed it first.

    Args:
        config: teacher, student, data, and each step's settings.
        until: the last stage to run.
        overrides: settings that differ from config, with dots: {"lora.rank": 4}.
    """
    return run_transfer(with_overrides(config, overrides), until)


def run_transfer(config: TransferConfig, until: Stage) -> TransferResult:
    """Plan and run a pair's steps in the present flow run; see `transfer`."""
    with keeping():
        get_run_logger().info("store %s", config.run.open_store().root)
        make_plan(config, until).check()
        runner = PrefectRunner(config.run, until)
        wire(config, runner)
        result = collect(config.run, runner.refs())
        report = next((Path(step.folder) for step in result.steps if step.step == "report"), None)
        show_transfer(config, result.steps, report)
        return result


def collect(run: RunConfig, refs: list[Ref]) -> TransferResult:
    """Gather what a run gave from the references of its steps."""
    store = run.open_store()
    steps, summary = [], None
    for ref in refs:
        folder = folder_of(store, ref)
        steps.append(
            StepResult(
                name=ref.label,
                step=ref.step,
                key=ref.key,
                artifact=ref.tree,
                status="cached" if ref.cached else "computed",
                seconds=ref.seconds,
                folder=str(folder),
                files=[str(folder / name) for name in sorted(ref.files)],
            )
        )
        if ref.step == "report":
            summary = read_json(folder / "summary.json")
    return TransferResult(steps=steps, summary=summary)
