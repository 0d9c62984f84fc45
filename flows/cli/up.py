"""``paraknow up``: server, work pool, deployments and workers on this machine, kept running."""

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from artifacts.disk.locations import default_store_root
from flows.server.prefect_home import DEFAULT
from flows.server.server_settings import ServerError
from flows.terminal import say
from paraknow_core.errors import ConfigError

if TYPE_CHECKING:
    from flows.site.password import ServerPassword
    from flows.site.settings import SiteSettings

_DATABASE: Final = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def up_command(
    *,
    file: Annotated[
        Path, typer.Argument(help="Deployments, as `prefect deploy` reads them.")
    ] = Path("deployments.yaml"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of the server.")] = 4200,
    gpus: Annotated[
        str,
        typer.Option(help="A worker for each: 0,1. Without: one worker, which sees what there is."),
    ] = "",
    database: Annotated[
        str,
        typer.Option(
            envvar=_DATABASE,
            show_envvar=False,
            metavar="URL",
            help=f"postgresql://USER:PASSWORD@HOST/NAME, better in {_DATABASE}, which others do "
            "not see. Without: SQLite in Prefect's folder.",
        ),
    ] = "",
) -> None:
    """Bring up a Prefect server with workers and deployments, and keep them running.

    The server listens on this machine only and asks for a password, which is made at first and kept
    for you alone. What ends by itself is started again; what ends five times in succession, each
    within a minute, stops all, as it would go on so. Ctrl-C stops the workers, then the server.

    Examples:
    - `paraknow up`
    - `paraknow up --gpus 0,1 --port 4300`
    """
    from filelock import FileLock, Timeout

    from flows.site.password import server_password
    from flows.site.settings import (
        SiteSettings,
        database_url,
        environment,
        refuse_what_is_there,
    )

    home = Path(os.environ.get("PREFECT_HOME") or DEFAULT).expanduser().absolute()
    folder = home / "paraknow"
    if not file.is_file():
        raise ConfigError(
            f"{file} is no file: give that of the deployments, such as the project's "
            "deployments.yaml"
        )
    url = database_url(database) if database else ""
    settings = SiteSettings(port, _gpus(gpus), url, folder, file.absolute().parent)
    password = server_password(folder, os.environ)
    try:
        with FileLock(folder / "up.lock", timeout=0):
            refuse_what_is_there(settings, os.environ)
            needed = environment(settings, password)
            os.environ.pop("PREFECT_API_KEY", None)  # would be sent in place of the password
            os.environ.update(needed)  # before Prefect is imported
            _keep(settings, password, file)
    except Timeout:
        raise ServerError(
            f"`paraknow up` is running already with Prefect's folder {home}; stop it, or set "
            "PREFECT_HOME to another folder"
        ) from None


def _keep(settings: "SiteSettings", password: "ServerPassword", file: Path) -> None:
    from flows.site.settings import database_shown
    from flows.site.site import MachineSite

    site = MachineSite(settings, dict(os.environ), say)

    def ready() -> None:
        for worker in site.workers:
            say(f"{worker.name}: started; takes one run at a time")
        say(
            f"""
UI        {settings.address}, which asks for the password {password.place}
database  {database_shown(settings)}
store     {default_store_root()}
logs      {settings.folder}

In another terminal:
  export PREFECT_API_URL={settings.address}/api
  export PREFECT_API_AUTH_STRING={password.shell}
  paraknow submit transfer/demo --watch

Ctrl-C stops the workers, with the runs that they have, then the server."""
        )

    say(f"server: starting at {settings.address}")
    site.keep(file, ready)
    say("stopped")


def _gpus(given: str) -> tuple[str, ...]:
    """Read ``0,1``; a GPU that is not there would be a worker that computes without one."""
    if not given:
        return ()
    from pydantic import ValidationError

    from flows.config.limits import SlotsConfig

    names = tuple(name.strip() for name in given.split(","))
    try:
        SlotsConfig(gpus=names)
    except ValidationError:
        raise ConfigError(
            f"--gpus {given}: write numbers or ids with commas, such as 0,1"
        ) from None
    if len(set(names)) < len(names):
        raise ConfigError(f"--gpus {given}: two workers would take the same GPU")
    numbers = [int(name) for name in names if name.isdecimal()]
    if numbers and max(numbers) >= (count := _count_gpus()):
        raise ConfigError(f"--gpus {given}: torch sees {count} GPUs here; they are counted from 0")
    return names


def _count_gpus() -> int:
    """Ask torch, in a process of its own: this one stays small."""
    asked = "import torch; print(torch.cuda.device_count())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", asked], capture_output=True, text=True, check=False
    )
    return int(done.stdout) if done.returncode == 0 else 0
