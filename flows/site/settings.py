"""What of a site can be chosen, what its processes are told, and what would be in its way."""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from flows.server.server_settings import ServerError
from flows.site.password import ServerPassword

HOST: Final = "127.0.0.1"
DATABASE: Final = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
_OURS: Final = r"http://(127\.0\.0\.1|localhost|\[::1\]):{port}/api"
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class SiteSettings:
    """What of a site can be chosen.

    Attributes:
        port: of the server.
        gpus: one worker each, as CUDA_VISIBLE_DEVICES takes it; none: one worker.
        database: URL of a PostgreSQL database; "": SQLite in Prefect's folder.
        folder: for logs and the lock.
        work_in: the folder of the deployments' file.
    """

    port: int
    gpus: tuple[str, ...]
    database: str = field(repr=False)
    folder: Path
    work_in: Path

    @property
    def address(self) -> str:
        """Of the server, without ``/api``."""
        return f"http://{HOST}:{self.port}"


def database_url(given: str) -> str:
    """Return a PostgreSQL address as Prefect takes it; the password is never quoted.

    Raises:
        ServerError: if it is none.
    """
    scheme, colon, rest = given.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+asyncpg") or not colon or not rest:
        raise ServerError(
            "the database must be given as postgresql://USER:PASSWORD@HOST/NAME (or be left out: "
            "SQLite in Prefect's folder)"
        )
    return f"postgresql+asyncpg://{rest}"


def database_shown(settings: SiteSettings) -> str:
    """Say where the server's database is, without user and password."""
    if not settings.database:
        return str(settings.folder.parent / "prefect.db")
    parts = urlsplit(settings.database)
    return f"PostgreSQL, {parts.hostname or 'local socket'}{parts.path}"


def environment(settings: SiteSettings, password: ServerPassword) -> dict[str, str]:
    """Return the variables that server, workers and this process need, without any others."""
    needed = {
        "PREFECT_API_URL": f"{settings.address}/api",
        "PREFECT_API_AUTH_STRING": password.text,
        "PREFECT_SERVER_API_AUTH_STRING": password.text,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # The slots of concurrency limits outlast a restart of the server.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "INFO",
    }
    return needed | ({DATABASE: settings.database} if settings.database else {})


def refuse_what_is_there(settings: SiteSettings, environ: Mapping[str, str]) -> None:
    """Refuse to start beside a server that the environment names, or that has the port.

    Raises:
        ServerError: says what is there, and what to do.
    """
    named = environ.get("PREFECT_API_URL", "").rstrip("/")
    if named and not re.fullmatch(_OURS.format(port=settings.port), named):
        raise ServerError(
            "PREFECT_API_URL names another server. To make that one ready there is `paraknow "
            "init-server`, and `prefect worker start --pool paraknow` for a worker; unset the "
            "variable to have a server of your own here"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, settings.port))
        except OSError:
            raise ServerError(_in_use(settings)) from None


def _in_use(settings: SiteSettings) -> str:
    if _is_prefect(settings.address):
        return (
            f"a Prefect server is at {settings.address} already: to use that one, set "
            f"PREFECT_API_URL={settings.address}/api, and run `paraknow init-server`; to have one "
            "more, choose another --port"
        )
    return f"another program has port {settings.port} already: choose another one with --port"


def _is_prefect(address: str) -> bool:
    try:
        answer = httpx.get(f"{address}/api/health", timeout=_ANSWER_SECONDS, trust_env=False)
    except (httpx.HTTPError, ValueError):
        return False
    return answer.text.strip() == "true"
