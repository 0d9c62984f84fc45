"""``paraknow init-server``: what a Prefect server lacks to run paraknow is made."""

from pathlib import Path
from typing import Annotated

import typer

from flows.server.server_settings import ServerError, server_is_set, server_problem
from flows.terminal import say


def init_server_command(
    *,
    file: Annotated[
        Path, typer.Argument(help="Deployments, as `prefect deploy` reads them.")
    ] = Path("deployments.yaml"),
) -> None:
    """Make a server ready, the one that PREFECT_API_URL names: pool, automations, deployments.

    Limits, variables and who is notified stand in the section `server` of the file. What is there
    stays: schedules, limits, variables and switches that were set in the UI. Where the file says
    otherwise, that is told. Relative paths of models and data mean the file's folder, wherever the
    command is called. Run it again after an upgrade.

    Examples:
    - `paraknow init-server`
    - `paraknow init-server /srv/paraknow/deployments.yaml`
    """
    from flows.operation.set_up.server import set_up

    if not server_is_set():
        raise ServerError(
            "no server is set: set PREFECT_API_URL to its address, such as "
            "http://127.0.0.1:4200/api; `paraknow up` starts one on this machine and makes it ready"
        )
    problem = server_problem()
    if problem:
        raise ServerError(problem)
    for line in set_up(file):
        say(line)
