"""The deployment whose runs compute cells: that it is there, and that it can do it."""

from typing import TYPE_CHECKING, Final

from flows.operation.set_up.automations import ZOMBIES
from flows.operation.submit import unknown_deployment
from flows.server.server_settings import ServerError, server_is_set, server_problem
from paraknow_core.errors import ConfigError
from tasks.engine.progress import logger

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FLOW: Final = "compare-cells"
"""The flow that computes cells (`flows/cells.py`)."""


def check_deployment(name: str) -> None:
    """Refuse a deployment that cannot compute cells, before anything is submitted to it.

    Args:
        name: FLOW/NAME.

    Raises:
        ServerError: if no server is set, or the one that is set does not answer.
        ConfigError: if there is no such deployment, or it is of another flow.
    """
    if not server_is_set():
        raise ServerError(
            f"fan_out.deployment is {name}, and no server is set: set PREFECT_API_URL to the "
            "address of one with workers, or leave fan_out out to compute here"
        )
    if problem := server_problem():
        raise ServerError(problem)
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    flow = name.partition("/")[0]
    if flow != FLOW:
        raise ConfigError(
            f"fan_out.deployment is {name}, of the flow {flow}; cells are computed by the flow "
            f"{FLOW}: deploy it (`paraknow init-server deployments.yaml`) and give {FLOW}/cells"
        )
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(name)
        except ObjectNotFound:
            raise ConfigError(f"fan_out: {unknown_deployment(client, name)}") from None
        _tell_of_silence(client)


def _tell_of_silence(client: "SyncPrefectClient") -> None:
    """Warn where a run whose machine dies would count as Running for ever."""
    if not any(found.enabled for found in client.read_automations_by_name(ZOMBIES)):
        logger.warning(
            "This server marks no silent run Crashed, so a run whose machine dies would be waited "
            "for without end: `paraknow init-server deployments.yaml` makes the automation; if it "
            "is there, switch it on."
        )
