"""A run of a deployment with some settings of its own, checked whole before it is submitted."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from flows.config.compare import CompareConfig
from flows.config.load import overridden
from flows.config.quick import QuickConfig
from flows.config.transfer import TransferConfig
from flows.operation.names import name_of
from paraknow_core.errors import ConfigError
from paraknow_core.setting_types import choose_setting

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SETTINGS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {"transfer": TransferConfig, "compare": CompareConfig, "quick": QuickConfig}
)
"""Flow → what its parameter ``config`` is."""


@dataclass(frozen=True)
class Submitted:
    """A flow run that waits for a worker.

    Attributes:
        id: of the flow run.
        name: as the UI shows it.
    """

    id: UUID
    name: str


def submit(deployment: str, overrides: Mapping[str, Any], *, name: str = "") -> Submitted:
    """Submit a run of a deployment.

    Args:
        deployment: FLOW/NAME, as `prefect deployment ls` shows it.
        overrides: setting, with dots, → its value, in place of the deployment's own.
        name: of the run; "": the experiment's, with what is set otherwise.

    Raises:
        ConfigError: if there is no such deployment (says which there are), if it is not of a flow
            of this project, or if its settings with these overrides are not allowed.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(deployment)
        except (ObjectNotFound, ValueError):
            raise ConfigError(unknown_deployment(client, deployment)) from None
        config = settings_sent(deployment, found.parameters, overrides)
        run = client.create_flow_run_from_deployment(
            found.id,
            parameters={**found.parameters, "config": config},
            name=name or name_of(str(config.get("name", found.name)), overrides),
        )
    return Submitted(run.id, run.name)


def settings_sent(
    deployment: str, parameters: Mapping[str, Any], overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a deployment's settings with what is set otherwise, checked whole.

    Args:
        deployment: FLOW/NAME.
        parameters: that it has.
        overrides: setting, with dots, → its value.

    Raises:
        ConfigError: see `submit`.
    """
    model = SETTINGS.get(deployment.partition("/")[0])
    config = parameters.get("config")
    if model is None or not isinstance(config, Mapping):
        raise ConfigError(
            f"{deployment} is of no flow that has settings here ({', '.join(SETTINGS)}); run it "
            "with `prefect deployment run`"
        )
    whole = overridden(model, config, overrides)
    return whole.model_dump(mode="json", exclude_unset=True)


def unknown_deployment(client: "SyncPrefectClient", deployment: str) -> str:
    """Say that a server has no such deployment, and which it has."""
    found = client.read_deployments()
    names = [f"{client.read_flow(one.flow_id).name}/{one.name}" for one in found]
    if not names:
        return (
            f"no deployment {deployment!r}: this server has none; make them with "
            "`paraknow init-server`"
        )
    try:
        choose_setting("deployment", deployment, dict.fromkeys(sorted(names)))
    except ValueError as error:
        return str(error)
    return f"deployment {deployment!r} was made this moment; submit it again"
