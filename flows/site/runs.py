"""Runs whose processes were ended with their workers: the server is told, as they cannot."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flows.operation.set_up.pool import POOL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_BEGUN: Final = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
_STOPPED: Final = (
    "`paraknow up` was stopped. What was computed is kept: submit the run again, and it goes on "
    "from there."
)
_RUN_OF_PROCESS: Final = "PREFECT__FLOW_RUN_ID"
"""Variable that Prefect's worker gives the process of a run."""
_SECONDS: Final = 10.0
_MOST: Final = 200
"""Of an answer of the server."""


@dataclass(frozen=True)
class RunUnderWay:
    """A flow run that has begun and not ended.

    Attributes:
        id: of the flow run.
        name: as the UI shows it.
        cancelling: whether somebody is cancelling it.
    """

    id: str
    name: str
    cancelling: bool


def runs_under_way() -> list[RunUnderWay]:
    """Name the runs of the pool's workers; none if the server does not answer."""
    with contextlib.suppress(Exception), _server() as client:
        return _begun(client, {"work_pools": {"name": {"any_": [POOL]}}})
    return []


def end_processes(runs: Sequence[RunUnderWay]) -> None:
    """Kill what carries runs on although their worker is gone, as after a SIGKILL of that."""
    import psutil

    ids = {run.id for run in runs}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(_RUN_OF_PROCESS) in ids:
                process.kill()  # its children end with it


def mark_ended(runs: Sequence[RunUnderWay]) -> None:
    """Say of runs, with their sub-flows and tasks, that they have ended with their workers."""
    from prefect.states import Cancelled, Crashed

    with contextlib.suppress(Exception), _server() as client:
        level = list(runs)
        while level:
            ids = [run.id for run in level]
            below = _begun(client, {"flow_runs": {"parent_flow_run_id": {"any_": ids}}})
            for task in _tasks_begun(client, ids):
                client.set_task_run_state(UUID(task), Crashed(message=_STOPPED), force=True)
            for run in level:
                state = Cancelled if run.cancelling else Crashed
                client.set_flow_run_state(run.id, state(message=_STOPPED), force=True)
            level = below


def _begun(client: "SyncPrefectClient", wanted: dict[str, Any]) -> list[RunUnderWay]:
    body = wanted | {"flow_runs": wanted.get("flow_runs", {}) | _BEGUN, "limit": _MOST}
    found = client.request("POST", "/flow_runs/filter", json=body).json()
    return [
        RunUnderWay(str(run["id"]), str(run["name"]), run["state_type"] == "CANCELLING")
        for run in found
    ]


def _tasks_begun(client: "SyncPrefectClient", runs: Sequence[str]) -> list[str]:
    wanted = {"flow_runs": {"id": {"any_": list(runs)}}, "task_runs": _BEGUN, "limit": _MOST}
    found = client.request("POST", "/task_runs/filter", json=wanted).json()
    return [str(task["id"]) for task in found]


def _server() -> "SyncPrefectClient":
    """Return a client that gives up soon: the end of the site must not wait for the server."""
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True, httpx_settings={"timeout": _SECONDS})
