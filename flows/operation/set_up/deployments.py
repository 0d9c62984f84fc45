"""Deployments: what the server has of them stays, the rest is as the file says."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flows.server.server_settings import ServerError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_PREFECT: Final = (sys.executable, "-m", "prefect", "--no-prompt")


def keep_what_is_there(client: "SyncPrefectClient", deployment: dict[str, Any]) -> Iterator[str]:
    """Leave out of a deployment what the server has already; say where that differs."""
    from prefect.exceptions import ObjectNotFound

    name = full_name(deployment)
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


def full_name(deployment: Mapping[str, Any]) -> str:
    """Return FLOW/NAME of a deployment in the file."""
    return f"{str(deployment['entrypoint']).rpartition('.')[2]}/{deployment['name']}"


def give_runs(client: "SyncPrefectClient", name: str, environment: Mapping[str, str]) -> None:
    """Add variables to the environment of a deployment's runs, where it sets none of its own.

    Args:
        client: of the server.
        name: FLOW/NAME.
        environment: name → value, in which ``{{ prefect.variables.… }}`` stays as it is: Prefect
            fills it in when a run starts. ``prefect deploy`` would at once, and for good.
    """
    there = client.read_deployment_by_name(name)
    job = dict(there.job_variables or {})
    own = dict(job.get("env") or {})
    if environment.keys() - own.keys():
        body = {"job_variables": job | {"env": {**environment, **own}}}
        client.request("PATCH", "/deployments/{id}", path_params={"id": there.id}, json=body)


def _states(schedules: Mapping[str, bool]) -> str:
    found = (f"{slug} {'on' if active else 'off'}" for slug, active in sorted(schedules.items()))
    return ", ".join(found) or "none"


def deploy(told: Mapping[str, Any], folder: Path) -> None:
    """Have Prefect deploy.

    Args:
        told: the file's contents.
        folder: what relative paths in them mean; ``{{ $PWD }}`` is this folder too, wherever the
            command was called.

    Raises:
        ServerError: if Prefect refuses; says why.
    """
    import yaml

    with tempfile.TemporaryDirectory(prefix="paraknow-deploy-") as aside:
        file = Path(aside) / "deployments.yaml"
        file.write_text(yaml.safe_dump(dict(told), sort_keys=False), encoding="utf-8")
        done = subprocess.run(
            [*_PREFECT, "deploy", "--all", "--prefect-file", str(file)],
            cwd=folder,
            env=os.environ | {"PWD": str(folder)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise ServerError(f"Prefect refused the deployments: {(done.stdout + done.stderr)[-1500:]}")
