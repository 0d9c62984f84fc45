"""The file of deployments: what of it is Prefect's, and what this project adds in ``server``."""

import copy
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from paraknow_core.errors import ConfigError
from paraknow_core.setting_errors import refusal
from paraknow_core.settings import Settings
from paraknow_core.strict_yaml import read_yaml

VARIABLES: Final = {"paraknow_store": "PARAKNOW_STORE", "paraknow_remote": "PARAKNOW_REMOTE"}
"""Variables of the server that runs are given → under which name in their environment."""
_VARIABLE: Final = r"^[a-z0-9_]{1,255}$"
_LIMIT: Final = r"^[^/%&><\"]{1,255}$"
_BLOCK: Final = r"^[a-z0-9-]+/[a-z0-9-]+$"


class SetUpConfig(Settings):
    """The section ``server`` of the file: what a server has besides deployments."""

    limits: dict[
        Annotated[str, Field(pattern=_LIMIT)], Annotated[int, Field(ge=0, le=1_000_000)]
    ] = Field(
        default_factory=dict,
        title="Limits",
        description="Global concurrency limits: name → how many at once.",
    )
    variables: dict[
        Annotated[str, Field(pattern=_VARIABLE)], Annotated[str, Field(max_length=5000)]
    ] = Field(
        default_factory=dict,
        title="Variables",
        description="Of the server. Runs get paraknow_store and paraknow_remote, if there are such "
        "variables, as PARAKNOW_STORE and PARAKNOW_REMOTE.",
    )
    notify: str = Field(
        "",
        pattern=rf"{_BLOCK}|^$",
        title="Notify",
        description="Block that is told of failed scheduled runs and changed verdicts, as "
        "TYPE/NAME: slack-webhook/ops. It must be there. Empty: the events alone tell.",
    )


class DeploymentsFile:
    """A file of deployments, read and checked.

    Args:
        path: of the file.

    Raises:
        ConfigError: if it is no such file, or its section ``server`` has something unknown.
    """

    def __init__(self, path: Path) -> None:
        told = read_yaml(path, refuse=ConfigError)
        if not isinstance(told, dict) or not isinstance(told.get("deployments"), list):
            raise ConfigError(f"{path} must hold `deployments`, a list")
        self.folder = path.absolute().parent
        try:
            self.server = SetUpConfig.model_validate(told.get("server") or {})
        except ValidationError as error:
            raise refusal(SetUpConfig, error, file=f"{path}, server") from None
        self.for_prefect = copy.deepcopy(told)
        for ours in ("definitions", "server"):  # YAML has put definitions where they are used
            self.for_prefect.pop(ours, None)
        for place, one in enumerate(self.deployments):
            if not isinstance(one, dict) or not {"name", "entrypoint"} <= one.keys():
                raise ConfigError(f"{path}: deployment {place + 1} must have `name`, `entrypoint`")

    @property
    def deployments(self) -> list[dict[str, Any]]:
        """The deployments, as Prefect is told of them."""
        found: list[dict[str, Any]] = self.for_prefect["deployments"]
        return found
