"""Runs that nothing carries on are found by their heartbeats."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from prefect.server.events.filters import EventFilter

from flows.doctor import idle_runs
from flows.doctor.finding import State
from flows.doctor.idle_runs import check_runs
from flows.doctor.prefect_server import Site

NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class Server(BaseHTTPRequestHandler):
    """Answers as Prefect's does, of runs and their last heartbeats."""

    beats: dict[str, datetime | None] = {}  # noqa: RUF012

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("flow_runs/filter"):
            assert body["flow_runs"]["state"]["type"]["any_"] == ["RUNNING", "CANCELLING"]
            answer: Any = [{"id": name, "name": f"run {name}"} for name in self.beats]
        else:
            wanted = EventFilter.model_validate(body["filter"])  # refuses what Prefect would
            assert wanted.event is not None
            assert wanted.event.name == ["prefect.flow-run.heartbeat"]
            beat = self.beats[body["filter"]["resource"]["id"][0].rpartition(".")[2]]
            answer = {"events": [{"occurred": beat.isoformat()}] if beat else []}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Server]]:
    handler = type("Handler", (Server,), {})
    started = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=started.serve_forever, daemon=True).start()
    api = f"http://127.0.0.1:{started.server_address[1]}/api"
    site = Site("3.8.8", api, "", embedded=False, host="127.0.0.1", port=1, guarded=False)
    monkeypatch.setattr(idle_runs, "read_site", lambda: site)
    yield handler
    started.shutdown()
    started.server_close()


def test_a_run_whose_heartbeat_stopped_is_named(server: type[Server]) -> None:
    server.beats = {
        "a": NOW - timedelta(seconds=20),
        "b": NOW - timedelta(hours=3),
        "c": None,
    }
    (found,) = check_runs(NOW)
    assert found.state is State.WARNING
    assert "run b (silent since 2026-11-01 09:00 UTC)" in found.found
    assert "run a" not in found.found
    assert "run c" not in found.found


def test_runs_with_a_heartbeat_are_in_order_and_others_are_counted(server: type[Server]) -> None:
    server.beats = {"a": NOW - timedelta(seconds=20), "c": None}
    (found,) = check_runs(NOW)
    assert found.state is State.OK
    assert (
        found.found == "1 running, each with a heartbeat; 1 without any, of which nothing can "
        "be said"
    )


def test_without_a_server_that_answers_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for api in ("", "http://127.0.0.1:1/api"):
        site = Site("3.8.8", api, "", embedded=False, host="127.0.0.1", port=1, guarded=False)
        monkeypatch.setattr(idle_runs, "read_site", lambda site=site: site)
        assert list(check_runs(NOW)) == []
