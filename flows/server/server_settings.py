"""The Prefect server that is set: whether one is, and why it cannot be used."""

from typing import Final
from urllib.parse import urlsplit

from paraknow_core.errors import ParaknowError

_SECONDS: Final = 10.0
"""Patience for the first answer. Prefect's client would try again for minutes."""

_REFUSED: Final = (401, 403)

NO_ADDRESS: Final = "PREFECT_API_URL is no address. Give http://HOST:PORT/api, or unset it."


class ServerError(ParaknowError):
    """There is no server for the run; the message says what to set."""


def server_is_set() -> bool:
    """Whether PREFECT_API_URL, or Prefect's profile, names a server."""
    from prefect.settings import get_current_settings

    return bool(get_current_settings().api.url)


def server_problem() -> str:
    """Say why the server that is set cannot be used; "" if it can, or if none is set."""
    from prefect.client.orchestration import get_client
    from prefect.settings import (
        PREFECT_CLIENT_MAX_RETRIES,
        get_current_settings,
        temporary_settings,
    )

    url = get_current_settings().api.url
    if not url:
        return ""
    shown = shown_address(url)
    if not shown:
        return NO_ADDRESS
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": _SECONDS}) as client,
        ):
            client.raise_for_api_version_mismatch()
            error = client.api_healthcheck()
    except Exception as raised:  # noqa: BLE001 - its text may quote a password
        error = raised
    return _sentence(shown, error) if error else ""


def wrong_settings(error: ValueError) -> str:
    """Say which of Prefect's settings is wrong; "" if the error is not of these.

    No value is quoted: it may hold a password.
    """
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return ""
    if not error.title.endswith("Settings"):  # as all of Prefect's are called, and none of ours
        return ""
    places = {".".join([error.title, *map(str, found["loc"])]) for found in error.errors()}
    return (
        f"Prefect refuses its own settings ({', '.join(sorted(places))}): correct or unset the "
        "PREFECT_… variable; or it stands in Prefect's profile, or in .env or prefect.toml here."
    )


def shown_address(url: str) -> str:
    """Return an address without user, password and query; "" if it is none."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _sentence(shown: str, error: BaseException) -> str:
    import httpx

    cause = error.__cause__ or error
    server = f"Prefect's server {shown} (PREFECT_API_URL)"
    if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code in _REFUSED:
        return (
            f"{server} refuses the password (HTTP {cause.response.status_code}). Set "
            "PREFECT_API_AUTH_STRING to the server's user:password; `paraknow up` prints where it "
            "keeps its own."
        )
    if isinstance(cause, httpx.TimeoutException):
        found = f"has not answered within {_SECONDS:.0f} s"
    elif isinstance(cause, httpx.HTTPStatusError):
        found = f"answers with HTTP {cause.response.status_code}"
    elif isinstance(cause, httpx.HTTPError):
        found = f"cannot be reached ({type(cause).__name__})"
    elif isinstance(cause, RuntimeError):
        found = f"is of another version: {cause}".rstrip(".")
    else:
        found = f"does not answer as Prefect's API does ({type(cause).__name__})"
    return (
        f"{server} {found}. Start or mend it, correct the address, or unset PREFECT_API_URL: a run "
        "then starts a server of its own. `paraknow doctor` tells more."
    )
