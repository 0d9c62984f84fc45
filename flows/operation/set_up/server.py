"""A whole server made ready: pool, queue, limits, variables, automations, deployments."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from flows.operation.set_up.automations import set_up_automations
from flows.operation.set_up.deployments import (
    deploy,
    full_name,
    give_runs,
    keep_what_is_there,
)
from flows.operation.set_up.file import VARIABLES, DeploymentsFile
from flows.operation.set_up.pool import set_up_limits, set_up_pool, set_up_queue, set_up_variables
from flows.server.server_settings import ServerError

_MOST: Final = 500
"""Letters of a server's answer that are shown."""


def set_up(path: Path) -> Iterator[str]:
    """Make what is absent, deploy what the file names, and yield a line on each thing.

    Args:
        path: of the deployments, as ``prefect deploy`` reads them; paths in them mean its folder.

    Raises:
        ConfigError: if the file holds no deployments, or something unknown in ``server``.
        ServerError: if Prefect refuses them; says why.
    """
    import httpx

    file = DeploymentsFile(path)
    try:
        yield from _before_deployments(file)
        deploy(file.for_prefect, file.folder)
        _give_variables(file)
    except httpx.HTTPStatusError as error:
        told = f"HTTP {error.response.status_code}: {error.response.text[:_MOST]}"
        raise ServerError(f"Prefect's server refuses what is to be made ({told})") from None
    yield f"deployed: {', '.join(str(one['name']) for one in file.deployments)}"


def _before_deployments(file: DeploymentsFile) -> Iterator[str]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield set_up_pool(client)
        yield set_up_queue(client)
        yield from set_up_limits(client, file.server.limits)
        yield from set_up_variables(client, file.server.variables)
        yield from set_up_automations(client, file.server.notify)
        for one in file.deployments:
            yield from keep_what_is_there(client, one)


def _give_variables(file: DeploymentsFile) -> None:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        given = {
            place: f"{{{{ prefect.variables.{name} }}}}"
            for name, place in VARIABLES.items()
            if client.read_variable_by_name(name) is not None
        }
        for one in file.deployments if given else ():
            give_runs(client, full_name(one), given)
