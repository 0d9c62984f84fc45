"""The server that is set: asked once, and what is wrong with it is one sentence."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import prefect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect.settings import PREFECT_API_URL, Settings, temporary_settings
from pydantic import BaseModel, ValidationError

from flows.server import server_settings
from flows.server.server import ensure_server
from flows.server.server_settings import (
    ServerError,
    server_problem,
    shown_address,
    wrong_settings,
)

SECRET = "hunter2-and-more"


class Fake(BaseHTTPRequestHandler):
    status = 200
    body = json.dumps(prefect.__version__)

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server that answers everything in one way; returns its address."""
    started = []

    def start(**answer: object) -> str:
        fake = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Fake,), answer))
        threading.Thread(target=fake.serve_forever, args=(0.01,), daemon=True).start()
        started.append(fake)
        return f"http://me:{SECRET}@127.0.0.1:{fake.server_address[1]}/api"

    yield start
    for fake in started:
        fake.shutdown()
        fake.server_close()


def problem(url: str) -> str:
    with temporary_settings({PREFECT_API_URL: url}):
        found = server_problem()
    assert SECRET not in found
    return found


def test_a_server_that_answers_is_no_problem(serve: Callable[..., str]) -> None:
    with temporary_settings({PREFECT_API_URL: serve()}):
        assert server_problem() == ""
        ensure_server()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"status": 404}, "HTTP 404"),
        ({"status": 401}, "HTTP 401). Set PREFECT_API_AUTH_STRING"),
        ({"status": 500}, "HTTP 500"),
        ({"body": "<html>"}, "does not answer as Prefect's API does"),
        ({"body": '"1.0.0"'}, "of another version"),
    ],
)
def test_a_server_that_does_not_serve(
    serve: Callable[..., str], answer: dict[str, object], said: str
) -> None:
    assert said in problem(serve(**answer))


def test_a_server_that_is_away_or_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_settings, "_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"http://me:{SECRET}@127.0.0.1:{port}/api"
        assert "has not answered within" in problem(url)
        with temporary_settings({PREFECT_API_URL: url}), pytest.raises(ServerError, match="unset"):
            ensure_server()
    assert "cannot be reached" in problem(url)


@given(st.text(), st.sampled_from(["http//", "foo:", "ftp://", "http://", "http://[", "://", ""]))
def test_an_address_is_shown_without_its_password_or_not_at_all(text: str, scheme: str) -> None:
    shown = shown_address(f"{scheme}me:{SECRET}@{text}")
    assert SECRET not in shown
    assert not shown or scheme == "http://"


@pytest.mark.parametrize("url", ["http//foo", "foo:4200", "http://", "http://host:port/api"])
def test_what_is_no_address_is_refused_before_anything_is_asked(url: str) -> None:
    assert "no address" in problem(url)


def test_settings_that_prefect_refuses_are_named_without_their_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_REQUEST_TIMEOUT", SECRET)
    with pytest.raises(ValidationError) as refused:
        Settings()
    sentence = wrong_settings(refused.value)
    assert "request_timeout" in sentence
    assert SECRET not in sentence


def test_other_models_errors_are_not_taken_for_prefects() -> None:
    class Other(BaseModel):
        number: int

    with pytest.raises(ValidationError) as refused:
        Other.model_validate({})
    assert wrong_settings(refused.value) == ""
