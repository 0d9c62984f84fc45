"""Runs whose processes were ended with their workers: the server is told, as they cannot."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flows.operation.set_up.pool import POOL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_BEGUN: Final = ("RUNNING", "PENDING", "CANCELLING")
_CANCELLED: Final = {"type": "CANCELLED", "message": "`paraknow up` was stopped meanwhile"}
_CRASHED: Final = {
    "type": "CRASHED",
    "message": "`paraknow up` was stopped. What was computed is kept: submit the run again, and it "
    "goes on from there.",
}
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
    with contextlib.suppress(Exception), _server() as client:
        level = list(runs)
        while level:
            ids = [run.id for run in level]
            below = _begun(client, {"flow_runs": {"parent_flow_run_id": {"any_": ids}}})
            for task in _answer(client, "task_runs", {"flow_runs": {"id": {"any_": ids}}}):
                _set(client, "task_runs", task["id"], _CRASHED)
            for run in level:
                _set(client, "flow_runs", run.id, _CANCELLED if run.cancelling else _CRASHED)
            level = below


def _begun(client: "SyncPrefectClient", wanted: dict[str, Any]) -> list[RunUnderWay]:
    found = _answer(client, "flow_runs", wanted)
    return [
        RunUnderWay(str(run["id"]), str(run["name"]), run["state_type"] == "CANCELLING")
        for run in found
    ]


def _answer(client: "SyncPrefectClient", kind: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    begun = {"state": {"type": {"any_": list(_BEGUN)}}}
    body = wanted | {kind: wanted.get(kind, {}) | begun, "limit": _MOST}
    found: list[dict[str, Any]] = client.request("POST", f"/{kind}/filter", json=body).json()
    return found


def _set(client: "SyncPrefectClient", kind: str, run: str, state: Mapping[str, str]) -> None:
    body = {"state": dict(state), "force": True}
    client.request("POST", f"/{kind}/{run}/set_state", json=body)


def _server() -> "SyncPrefectClient":
    """Return a client that gives up soon: the end of the site must not wait for the server."""
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True, httpx_settings={"timeout": _SECONDS})
