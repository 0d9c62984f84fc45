"""The flow ``quick``: one pair with the settings that people change most; the rest is usual."""

from typing import Any

from prefect import flow

from flows.config.load import with_overrides
from flows.config.quick import QuickConfig
from flows.operation.names import run_name
from flows.transfer import TransferResult, run_transfer
from tasks.engine.stage import Stage


@flow(name="quick", flow_run_name=run_name, persist_result=False)
def quick(config: QuickConfig, overrides: dict[str, Any] | None = None) -> TransferResult:
    """Move knowledge from a teacher to a student, with few settings to give.

    It is the flow `transfer` with everything else as usual, and shares all results with it.

    Args:
        config: teacher, student, rows, rank, learning rate and seed.
        overrides: settings that differ from config: {"rank": 4}.
    """
    return run_transfer(with_overrides(config, overrides).transfer(), Stage.REPORT)
