"""A comparison that is fanned out to runs which compute in this process, without a server."""

import json
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from support.direct import compare_direct

from flows.config.compare import CompareConfig
from flows.fan_out import fan_out
from flows.graph.cell import CellOutcome
from flows.results.report_inputs import inputs_of, report_of
from paraknow_core.settings import identity_of


class RunsHere:
    """Computes what a run would be sent, whole: it has to be all cells of the comparison."""

    def __init__(self, _deployment: str) -> None:
        pass

    def run(self, _unit: Any, parameters: dict[str, Any]) -> FlowRun:
        sent = json.loads(json.dumps(parameters["config"]))
        compare_direct(CompareConfig.model_validate(sent))
        state = State(type=StateType.COMPLETED)
        return FlowRun(id=uuid4(), name="a run", flow_id=uuid4(), state=state)

    def cancel(self) -> None:
        raise AssertionError("a run failed")


def fanned_out_here(config: CompareConfig, patch: pytest.MonkeyPatch) -> list[CellOutcome]:
    """The outcomes as the comparison looks them up once its runs have ended."""
    patch.setattr(fan_out, "check_deployment", lambda _name: None)
    patch.setattr(fan_out, "ChildRuns", RunsHere)
    away = {"fan_out": {"deployment": "compare-cells/cells"}}
    return fan_out.fanned_out(
        CompareConfig.model_validate(config.model_dump(exclude_unset=True) | away)
    )


def reported(config: CompareConfig, outcomes: list[CellOutcome]) -> tuple[Any, dict[str, str]]:
    """What the report's key is made of: its settings, and the key of each of its inputs."""
    handles = inputs_of(outcomes)
    keys = {role: handle.ref.key for role, handle in handles.items() if handle.ref is not None}
    assert keys.keys() == handles.keys()
    return identity_of(report_of(config, outcomes)), keys
