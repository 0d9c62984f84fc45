"""The flow ``compare``: many pairs × tasks × methods × seeds, with shared upstream work."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Failed

from artifacts.live import keeping
from flows.cells import run_cells
from flows.config.compare import CompareConfig
from flows.config.load import with_overrides
from flows.fan_out.fan_out import fanned_out
from flows.graph.runner import PrefectRunner
from flows.operation.names import run_name
from flows.planning.compare import make_compare_plan
from flows.results.conclude import CompareResult, conclude
from flows.results.report_inputs import start_report
from flows.results.shown import show_comparison
from flows.results.verdict_events import tell_changed_verdicts
from tasks.engine.stage import Stage


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
    outcomes = fanned_out(config) if config.fan_out.deployment else run_cells(config)
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
