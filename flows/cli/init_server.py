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
    """Make pool, queue, automation and deployments on the server that PREFECT_API_URL names.

    What is there stays: schedules, limits and switches that were set in the UI. Where the file says
    otherwise, that is told. Run it again after an upgrade.

    Examples:
    - `paraknow init-server`
    """
    from flows.operation.set_up import set_up

    if not server_is_set():
        raise ServerError(
            "no server is set: start one (`make server`) and set PREFECT_API_URL to its address, "
            "such as http://127.0.0.1:4200/api"
        )
    problem = server_problem()
    if problem:
        raise ServerError(problem)
    for line in set_up(file):
        say(line)
