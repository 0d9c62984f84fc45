"""Prefect: which server is meant, does it answer, and who else could give it orders.

Whoever reaches a server without authentication can have its workers run any code. So a server that
listens beyond this machine must ask for a password. No address is printed with its user or
password, and no error's own text, as it may quote one.
"""

import base64
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from flows.doctor.finding import Finding, State
from flows.doctor.listeners import listeners_beyond_loopback

DEFAULT_PORT: Final = 4200
EXPOSURE: Final = "prefect exposure"
PASSWORD: Final = "set PREFECT_SERVER_API_AUTH_STRING where the server starts"  # noqa: S105
_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Site:
    """What this process's settings say of a server.

    Attributes:
        client: Prefect's version here.
        api: address of the server's API, "" for none.
        authorization: the header to send, "" for none.
        embedded: whether a run may start a hidden server for itself.
        host: where a server that is started here would listen.
        port: the same.
        guarded: whether a server that is started here would ask for a password.
    """

    client: str
    api: str
    authorization: str = field(repr=False)
    embedded: bool
    host: str
    port: int
    guarded: bool

    @property
    def address(self) -> SplitResult:
        """The API's address, taken apart."""
        return urlsplit(self.api)

    @property
    def shown(self) -> str:
        """The API's address without user, password and query."""
        parts = self.address
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


class HttpAnswer(NamedTuple):
    """Of a server: its HTTP status and text, or status 0 and the kind of error."""

    status: int
    text: str


def check_prefect() -> Iterator[Finding]:
    """Check the settings, the server that they name, and what listens on its port."""
    try:
        site = read_site()
        bad_address = bool(site.api) and not site.address.hostname
        _ = site.address.port
    except Exception as error:  # noqa: BLE001  its text may quote a secret
        said = f"it does not load, or a setting is wrong ({type(error).__name__})"
        advice = "look at `prefect config view`; install fastapi<0.151 and sqlalchemy<2.1"
        yield Finding("prefect", State.FAILED, said, advice)
        return
    if bad_address:
        advice = "give http://HOST:PORT/api"
        yield Finding("prefect", State.FAILED, "PREFECT_API_URL is no address", advice)
        return
    yield reachable(site)
    yield from exposed(site)


def read_site() -> Site:
    """Read the settings as Prefect does: environment, profile, .env."""
    import prefect
    from prefect.settings import Settings

    settings = Settings()
    key, string = settings.api.key, settings.api.auth_string
    header = ""
    if key is not None:
        header = f"Bearer {key.get_secret_value()}"
    elif string is not None:
        header = f"Basic {base64.b64encode(string.get_secret_value().encode()).decode()}"
    server = settings.server.api
    return Site(
        client=prefect.__version__,
        api=(settings.api.url or "").rstrip("/"),
        authorization=header,
        embedded=settings.server.ephemeral.enabled,
        host=server.host,
        port=server.port,
        guarded=server.auth_string is not None and bool(server.auth_string.get_secret_value()),
    )


def reachable(site: Site) -> Finding:
    """Ask the server for its version."""
    if not site.api:
        if site.embedded:
            said = f"{site.client}, no server: each run starts one for itself (some seconds)"
            advice = "for a UI: `paraknow up`, and set PREFECT_API_URL to its address"
            return Finding("prefect", State.OK, said, advice)
        said = "PREFECT_API_URL is not set, and embedded servers are switched off"
        return Finding("prefect", State.FAILED, said, "set PREFECT_API_URL")
    answer = ask(f"{site.api}/admin/version", site.authorization)
    if answer.status == 0:
        said = f"{site.shown} does not answer ({answer.text})"
        advice = "start the server (`paraknow up`), or mend or unset PREFECT_API_URL"
        return Finding("prefect", State.FAILED, said, advice)
    if answer.status in (401, 403):
        said = f"{site.shown} refuses the credentials (HTTP {answer.status})"
        return Finding("prefect", State.FAILED, said, "set PREFECT_API_AUTH_STRING to the server's")
    if answer.status != 200:
        said = f"{site.shown} answers with HTTP {answer.status}"
        return Finding("prefect", State.FAILED, said, "see whether the address ends in /api")
    return _compared(site, answer.text.strip().strip('"'))


def _compared(site: Site, server: str) -> Finding:
    if server == site.client:
        return Finding("prefect", State.OK, f"{site.shown} answers, version {server} as here")
    said = f"{site.shown} has version {server[:40]!r}, this machine {site.client}"
    # Prefect itself refuses only another major version.
    same_major = server.partition(".")[0] == site.client.partition(".")[0]
    state = State.WARNING if same_major else State.FAILED
    return Finding("prefect", state, said, "install the same version on both")


def exposed(site: Site) -> Iterator[Finding]:
    """Tell whether a server without authentication can be reached from elsewhere."""
    findings = [*_if_started_here(site), *_named_server(site), *_what_listens(site)]
    yield from findings
    if all(finding.topic != EXPOSURE for finding in findings):
        said = "nothing on the server's port listens beyond this machine without a password"
        yield Finding(EXPOSURE, State.OK, said)


def _if_started_here(site: Site) -> Iterator[Finding]:
    if not site.guarded and not is_loopback(site.host):
        said = f"PREFECT_SERVER_API_HOST is {site.host}, and the server would ask for no password"
        advice = f"{PASSWORD}, or set PREFECT_SERVER_API_HOST=127.0.0.1"
        yield Finding(EXPOSURE, State.FAILED, said, advice)


def _named_server(site: Site) -> Iterator[Finding]:
    if not site.api:
        return
    anonymous = ask(f"{site.api}/admin/version", "")
    if is_loopback(site.address.hostname or ""):
        if anonymous.status == 200:
            said = "the server asks for no password: any local user, and a web page in a local "
            said += "browser, could give it orders"
            advice = f"{PASSWORD}, and PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true"
            yield Finding("prefect password", State.WARNING, said, advice)
    elif anonymous.status == 200:
        said = f"{site.shown} takes orders from anybody who reaches it"
        advice = f"{PASSWORD}, and PREFECT_API_AUTH_STRING here"
        yield Finding(EXPOSURE, State.FAILED, said, advice)
    elif not site.authorization and anonymous.status == 0:
        said = f"{site.shown} is another machine, and no password for it is set here"
        advice = f"{PASSWORD}, and PREFECT_API_AUTH_STRING here"
        yield Finding(EXPOSURE, State.FAILED, said, advice)


def _what_listens(site: Site) -> Iterator[Finding]:
    ports = {site.port, DEFAULT_PORT}
    if site.api and is_loopback(site.address.hostname or ""):
        ports.add(site.address.port or (443 if site.address.scheme == "https" else 80))
    found = listeners_beyond_loopback(ports)
    if found is None:
        said = "this system does not say which addresses a server listens on"
        advice = f"see to it that the server listens on 127.0.0.1 only, or {PASSWORD}"
        yield Finding(EXPOSURE, State.WARNING, said, advice)
        return
    for port, addresses in sorted(found.items()):
        if ask(f"http://127.0.0.1:{port}/api/admin/version", "").status == 200:
            said = (
                f"a server listens on {', '.join(addresses)} port {port} and asks for no password"
            )
            advice = f"{PASSWORD}, or start it with --host 127.0.0.1"
            yield Finding(EXPOSURE, State.FAILED, said, advice)


def is_loopback(host: str) -> bool:
    """Tell whether an address can only be reached from this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def ask(url: str, authorization: str) -> HttpAnswer:
    """Get a page, without proxies, redirects and patience."""
    import httpx

    headers = {"Authorization": authorization} if authorization else {}
    try:
        answer = httpx.get(url, headers=headers, timeout=_SECONDS, trust_env=False)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        return HttpAnswer(0, type(error).__name__)
    return HttpAnswer(answer.status_code, answer.text[:200])
