"""Pool, queue, automation and deployments on a Prefect server: what is absent is made, no more.

What an operator set on the server (schedules added or switched on, limits) stays as it is, and
where it differs from the file, that is said.
"""

import copy
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.server.server_settings import ServerError
from paraknow_core.errors import ConfigError
from paraknow_core.strict_yaml import read_yaml

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL: Final = "paraknow"
SHORT: Final = "short"
"""The queue of short runs; a worker takes them first."""
ZOMBIES: Final = "paraknow: a run without heartbeat is Crashed"
SILENCE: Final = timedelta(seconds=90)
"""Three beats (PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 in deployments.yaml)."""
_PREFECT: Final = (sys.executable, "-m", "prefect", "--no-prompt")
_ENDS: Final = ("Completed", "Failed", "SomeFailed", "Cancelled", "Crashed")


def set_up(file: Path) -> Iterator[str]:
    """Make what is absent, deploy what the file names, and yield a line on each thing.

    Args:
        file: deployments, as ``prefect deploy`` reads them.

    Raises:
        ConfigError: if the file holds no deployments.
        ServerError: if Prefect refuses them; says why.
    """
    from prefect.client.orchestration import get_client

    told = read_yaml(file, refuse=ConfigError)
    if not isinstance(told, dict) or not isinstance(told.get("deployments"), list):
        raise ConfigError(f"{file} must hold `deployments`, a list")
    with get_client(sync_client=True) as client:
        yield _pool(client)
        yield _queue(client)
        yield _automation(client)
        kept = copy.deepcopy(told)
        kept.pop("definitions", None)  # YAML has put them where they are used
        for deployment in kept["deployments"]:
            yield from _keep(client, deployment)
    _deploy(kept, file.parent)
    yield f"deployed: {', '.join(str(found['name']) for found in kept['deployments'])}"


def _pool(client: "SyncPrefectClient") -> str:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        return f"pool {POOL}: made"
    limit = "no limit" if pool.concurrency_limit is None else f"limit {pool.concurrency_limit}"
    return f"pool {POOL}: kept as it is ({limit})"


def _queue(client: "SyncPrefectClient") -> str:
    pool = {"work_pool_name": POOL}
    found = client.request("POST", "/work_pools/{work_pool_name}/queues/filter", path_params=pool)
    if any(queue["name"] == SHORT for queue in found.json()):
        return f"queue {SHORT}: kept as it is"
    client.request(
        "POST",
        "/work_pools/{work_pool_name}/queues",
        path_params=pool,
        json={"name": SHORT, "priority": 1, "description": "Runs of minutes; taken first."},
    )
    return f"queue {SHORT}: made"


def _automation(client: "SyncPrefectClient") -> str:
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    wanted = {"automations": {"name": {"any_": [ZOMBIES]}}}
    found = client.request("POST", "/automations/filter", json=wanted).json()
    if found:
        state = "on" if found[0]["enabled"] else "switched off"
        return f"automation for runs that nothing carries on: kept as it is ({state})"
    beat = "prefect.flow-run.heartbeat"
    wanted_automation = AutomationCore(
        name=ZOMBIES,
        description="A run whose machine died says nothing more. See docs/operations.md.",
        trigger=EventTrigger(
            after={beat},
            expect={beat, *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state="CRASHED",
                message=f"no heartbeat for {SILENCE.total_seconds():.0f} s: its process is gone",
            )
        ],
    )
    client.request("POST", "/automations/", json=wanted_automation.model_dump(mode="json"))
    return "automation for runs that nothing carries on: made"


def _keep(client: "SyncPrefectClient", deployment: dict[str, Any]) -> Iterator[str]:
    """Leave out of a deployment what the server has already; say where that differs."""
    from prefect.exceptions import ObjectNotFound

    name = f"{str(deployment['entrypoint']).rpartition('.')[2]}/{deployment['name']}"
    try:
        there = client.read_deployment_by_name(name)
    except ObjectNotFound:
        return
    wanted = deployment.pop("schedules", [])
    active = {str(one.slug): one.active for one in there.schedules}
    told = {str(one.get("slug")): bool(one.get("active", True)) for one in wanted}
    if active != told:
        yield f"{name}: schedules kept ({_states(active)}); the file has {_states(told)}"
    limit = there.global_concurrency_limit.limit if there.global_concurrency_limit else None
    in_file = deployment.get("concurrency_limit")
    in_file = in_file.get("limit") if isinstance(in_file, Mapping) else in_file
    if limit != in_file:
        yield f"{name}: limit {limit} kept; the file has {in_file}"
        if limit is not None:
            deployment["concurrency_limit"] = limit
        else:
            deployment.pop("concurrency_limit", None)


def _states(schedules: Mapping[str, bool]) -> str:
    found = (f"{slug} {'on' if active else 'off'}" for slug, active in sorted(schedules.items()))
    return ", ".join(found) or "none"


def _deploy(told: Mapping[str, Any], folder: Path) -> None:
    """Have Prefect deploy; ``folder`` is what a deployment's relative paths mean."""
    import yaml

    with tempfile.TemporaryDirectory(prefix="paraknow-deploy-") as aside:
        file = Path(aside) / "deployments.yaml"
        file.write_text(yaml.safe_dump(dict(told), sort_keys=False), encoding="utf-8")
        done = subprocess.run(
            [*_PREFECT, "deploy", "--all", "--prefect-file", str(file)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ServerError(f"Prefect refused the deployments: {(done.stdout + done.stderr)[-1500:]}")
