"""``paraknow submit``: a run of a deployment, with settings of its own."""

from typing import TYPE_CHECKING, Annotated

import typer

from flows.server.server_settings import ServerError, server_is_set, server_problem
from flows.terminal import say

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from flows.operation.submit import Submitted


def submit_command(
    *,
    deployment: Annotated[
        str, typer.Argument(help="FLOW/NAME, such as transfer/demo; `prefect deployment ls`.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A setting other than the deployment's: lora.rank=4."
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="Of the run; otherwise it says what is set otherwise.")
    ] = "",
    watch: Annotated[
        bool, typer.Option("--watch", help="Wait for the end; exit code 1 unless it completed.")
    ] = False,
) -> None:
    """Submit a run of a deployment to the server; a worker runs it.

    The settings are checked whole before anything is submitted.

    Examples:
    - `paraknow submit transfer/demo --set lora.rank=4 --set finetune.seed=1`
    - `paraknow submit compare/nightly --watch`
    """
    from flows.config.load import read_overrides
    from flows.operation.submit import submit

    overrides = read_overrides(set_ or [])
    if not server_is_set():
        raise ServerError(
            "no server is set: set PREFECT_API_URL to its address, such as "
            "http://127.0.0.1:4200/api, or run here with `paraknow transfer` or `compare`"
        )
    if problem := server_problem():
        raise ServerError(problem)
    submitted = submit(deployment, overrides, name=name)
    say(f"submitted: {submitted.name}, run {submitted.id}")
    if not watch:
        return
    run = _ended(submitted)
    state = run.state
    told = f": {state.message}" if state is not None and state.message else ""
    say(f"{run.state_name}{told}")
    if state is None or not state.is_completed():
        raise typer.Exit(1)


def _ended(submitted: "Submitted") -> "FlowRun":
    """Wait for a run as long as it takes.

    Raises:
        ServerError: if the server is gone meanwhile; the run is not.
    """
    import anyio
    from prefect.flow_runs import wait_for_flow_run

    async def wait() -> "FlowRun":
        return await wait_for_flow_run(submitted.id, timeout=None)

    try:
        return anyio.run(wait)
    except Exception as error:  # noqa: BLE001 - of requests, sockets, and Prefect's own
        raise ServerError(
            f"the server no longer answers ({type(error).__name__}). The run {submitted.id} goes "
            f"on without this command; look again with `prefect flow-run inspect {submitted.id}`"
        ) from None
