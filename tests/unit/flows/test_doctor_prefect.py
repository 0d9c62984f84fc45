import base64
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import psutil
import pytest

from flows.doctor import prefect_server as doctor_prefect
from flows.doctor.finding import Finding, State
from flows.doctor.listeners import listeners_beyond_loopback
from flows.doctor.prefect_server import (
    HttpAnswer,
    Site,
    check_prefect,
    exposed,
    is_loopback,
    reachable,
)

SECRET = "hunter2-and-more"


def states(findings: list[Finding]) -> dict[str, State]:
    return {finding.topic: finding.state for finding in findings}


class FakeServer(BaseHTTPRequestHandler):
    password = ""
    version = "3.8.8"

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(self.password.encode()).decode()
        refused = self.password and self.headers.get("Authorization") != expected
        self.send_response(401 if refused else 200)
        self.end_headers()
        self.wfile.write(b"{}" if refused else json.dumps(self.version).encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., int]]:
    """Start a server that answers as Prefect's does; returns its port."""
    started = []

    def start(host: str = "127.0.0.1", password: str = "", version: str = "3.8.8") -> int:
        handler = type("Handler", (FakeServer,), {"password": password, "version": version})
        server = ThreadingHTTPServer((host, 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started.append(server)
        return int(server.server_address[1])

    yield start
    for server in started:
        server.shutdown()
        server.server_close()


def site(**changes: object) -> Site:
    settings = {
        "client": "3.8.8",
        "api": "",
        "authorization": "",
        "embedded": True,
        "host": "127.0.0.1",
        "port": 1,  # nothing listens there
        "guarded": False,
    }
    return Site(**settings | changes)


@pytest.fixture(autouse=True)
def no_other_port(monkeypatch):
    monkeypatch.setattr(doctor_prefect, "DEFAULT_PORT", 1)


def test_without_a_server_runs_start_one_unless_that_is_off():
    assert reachable(site()).state is State.OK
    assert reachable(site(embedded=False)).state is State.FAILED


@pytest.mark.parametrize(
    ("version", "state"),
    [("3.8.8", State.OK), ("3.8.2", State.WARNING), ("2.20.0", State.FAILED)],
)
def test_the_servers_version_is_compared(serve, version, state):
    api = f"http://127.0.0.1:{serve(version=version)}/api"
    assert reachable(site(api=api)).state is state


def test_a_server_that_is_away_or_refuses_is_a_failure(serve):
    assert reachable(site(api="http://127.0.0.1:1/api")).state is State.FAILED
    api = f"http://127.0.0.1:{serve(password='user:' + SECRET)}/api"
    assert reachable(site(api=api)).state is State.FAILED
    header = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert reachable(site(api=api, authorization=header)).state is State.OK
    assert header not in repr(site(authorization=header))


def test_a_server_that_listens_on_every_address_must_ask_for_a_password(serve):
    """A real socket on 0.0.0.0, found in the kernel's table."""
    for password, state in (("", State.FAILED), ("u:p", State.OK)):
        port = serve("0.0.0.0", password)
        found = list(exposed(site(api=f"http://localhost:{port}/api")))
        assert states(found)["prefect exposure"] is state
    assert "0.0.0.0" not in found[0].found


def test_a_server_on_loopback_without_a_password_is_a_warning(serve):
    found = states(list(exposed(site(api=f"http://127.0.0.1:{serve()}/api"))))
    assert found == {"prefect password": State.WARNING, "prefect exposure": State.OK}


@pytest.mark.parametrize(("guarded", "state"), [(False, State.FAILED), (True, State.OK)])
def test_a_server_that_would_listen_on_every_address(guarded, state):
    found = list(exposed(site(host="0.0.0.0", guarded=guarded)))
    assert states(found)["prefect exposure"] is state


@pytest.mark.parametrize(
    ("status", "authorization", "state"),
    [
        (200, "", State.FAILED),
        (200, "Basic x", State.FAILED),  # it would take orders without it too
        (0, "", State.FAILED),
        (0, "Basic x", State.OK),
        (401, "Basic x", State.OK),
    ],
)
def test_a_server_elsewhere_must_ask_for_a_password(monkeypatch, status, authorization, state):
    monkeypatch.setattr(doctor_prefect, "ask", lambda _url, _header: HttpAnswer(status, '"3.8.8"'))
    found = exposed(site(api="http://10.1.2.3:4200/api", authorization=authorization))
    assert states(list(found))["prefect exposure"] is state


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *[(host, True) for host in ("localhost", "127.8.0.1", "::1")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org")],
    ],
)
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def test_only_sockets_that_others_reach_are_told(monkeypatch):
    sockets = [
        ("127.0.0.1", 4200, psutil.CONN_LISTEN),
        ("192.168.0.2", 4200, psutil.CONN_LISTEN),
        ("192.168.0.2", 4200, psutil.CONN_LISTEN),  # a worker that shares the socket
        ("0.0.0.0", 4201, psutil.CONN_LISTEN),  # not asked for
        ("0.0.0.0", 4200, psutil.CONN_ESTABLISHED),
        ("::", 4200, psutil.CONN_LISTEN),
        ("::1", 4200, psutil.CONN_LISTEN),
        ("::ffff:127.0.0.1", 4200, psutil.CONN_LISTEN),
        ("::1", 4202, psutil.CONN_LISTEN),
    ]
    told = [
        SimpleNamespace(laddr=SimpleNamespace(ip=host, port=port), status=status)
        for host, port, status in sockets
    ]
    monkeypatch.setattr(psutil, "net_connections", lambda kind: told)
    assert listeners_beyond_loopback({4200, 4202}) == {4200: ["192.168.0.2", "::"]}


def test_a_listening_socket_of_this_machine_is_seen():
    with socket.socket() as waits, socket.socket() as local:
        waits.bind(("0.0.0.0", 0))
        local.bind(("127.0.0.1", 0))
        ports = set()
        for one in (waits, local):
            one.listen()
            ports.add(one.getsockname()[1])
        assert listeners_beyond_loopback(ports) == {waits.getsockname()[1]: ["0.0.0.0"]}


@pytest.mark.parametrize("error", [psutil.AccessDenied(), FileNotFoundError("/proc/net/tcp")])
def test_a_system_that_does_not_tell_its_sockets_is_no_proof_of_safety(monkeypatch, error):
    def refuse(kind):
        raise error

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert listeners_beyond_loopback({4200}) is None


def test_a_setting_that_is_wrong_is_a_failure_and_not_quoted(monkeypatch):
    monkeypatch.setenv("PREFECT_SERVER_API_PORT", SECRET)
    (found,) = check_prefect()
    assert found.state is State.FAILED
    assert SECRET not in found.found + found.advice
