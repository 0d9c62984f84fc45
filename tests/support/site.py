"""A Prefect installation for one test: a server on SQLite, and workers that use it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
from support.browser import Tab
from support.patience import PATIENCE, wait_until

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """One Prefect installation of its own: server, pool, worker.

    Args:
        folder: for its files.
        more: environment of all its processes, beyond this process's own.
    """

    def __init__(self, folder: Path, more: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.processes: list[subprocess.Popen[bytes]] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        self.environment = kept | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.api,
            # A client that timed out and repeated its request would make a second run.
            "PREFECT_API_REQUEST_TIMEOUT": str(int(PATIENCE)),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "OMP_NUM_THREADS": "1",
            **(more or {}),
        }

    def start(
        self, *command: str, more: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start one of Prefect's commands; ``more`` is environment of its own."""
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(BIN / "prefect"), *command],
                env=self.environment | dict(more or {}),
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_server(self) -> None:
        """Start a server on the site's own database, and wait until it answers."""
        self.start("server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        self.wait("the server", lambda: self.get("health"))

    def start_all(self) -> None:
        """Start server, worker and deployments by `paraknow up`, from another folder."""
        main, file = "from flows.cli.main import main; main()", PROJECT / "deployments.yaml"
        log = self.folder / f"{len(self.processes)}.log"
        with log.open("wb") as opened:
            up = subprocess.Popen(
                [sys.executable, "-c", main, "up", str(file), "--port", str(self.port)],
                env=self.environment | {"PYTHONPATH": str(PROJECT)},
                cwd=self.folder,
                stdout=opened,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(up)

        def ready() -> bool:
            assert up.poll() is None, log.read_text()
            return "In another terminal" in log.read_text()

        self.wait("`paraknow up`", ready)
        kept = self.folder / "home" / "paraknow" / "auth"
        self.environment["PREFECT_API_AUTH_STRING"] = kept.read_text().strip()

    def log_in(self, tab: Tab) -> None:
        """Give a browser the server's password, as the UI's own form does."""
        tab.open(self.api.removesuffix("/api"))
        password = json.dumps(self.environment["PREFECT_API_AUTH_STRING"])
        tab.eval(f"localStorage.setItem('prefect-password', btoa({password}))")

    def kill(self) -> None:
        """SIGKILL what was started last, with its children."""
        process = self.processes.pop()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def call(self, *command: str, cwd: Path = PROJECT) -> str:
        done = subprocess.run(
            [str(BIN / "prefect"), "--no-prompt", *command],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def paraknow(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run this project's command on the site's server."""
        main = "from flows.cli.main import main; main()"
        return subprocess.run(
            [sys.executable, "-c", main, *command],
            env=self.environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )

    def init_server(self) -> str:
        """Set the server up once more."""
        done = self.paraknow("init-server", "deployments.yaml")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def get(self, path: str) -> Any:
        return self._answer("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self._answer("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        return self._answer("PATCH", path, body)

    def delete(self, path: str) -> Any:
        return self._answer("DELETE", path)

    def _auth(self) -> tuple[str, str] | None:
        user, _, password = self.environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
        return (user, password) if user else None

    def _answer(self, method: str, path: str, body: Any = None) -> Any:
        """What the server says; "the database is locked" (503) is a request to ask again."""

        def asked() -> httpx.Response | None:
            answer = httpx.request(
                method, f"{self.api}/{path}", json=body, timeout=PATIENCE, auth=self._auth()
            )
            return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer

        answer = wait_until(f"an answer to {method} {path}", asked, every=1)
        assert answer is not None
        return answer.raise_for_status().json() if answer.content else answer.raise_for_status()

    def wait(self, what: str, found: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        def asked() -> Any:
            try:
                return found()
            except httpx.TransportError:  # the server is not there yet, or no longer
                return None

        def logs() -> str:
            return "\n".join(p.read_text()[-3000:] for p in sorted(self.folder.glob("*.log")))

        return wait_until(what, asked, seconds=seconds, every=1, otherwise=logs)

    def flow_runs(self, deployment: str) -> list[dict[str, Any]]:
        body = {"deployments": {"name": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
        runs: list[dict[str, Any]] = self.post("flow_runs/filter", body)
        return runs

    def finished(self, flow_run: str) -> dict[str, Any]:
        """The flow run, once it has ended."""

        def ended() -> dict[str, Any] | None:
            run: dict[str, Any] = self.get(f"flow_runs/{flow_run}")
            return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

        run: dict[str, Any] = self.wait("the end of the run", ended, 3 * PATIENCE)
        return run

    def deployment_run(self, deployment: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Run ``flow/deployment`` with this config as a person would, and wait for its end."""
        name = deployment.split("/")[1]
        known = {run["id"] for run in self.flow_runs(name)}
        self.call("deployment", "run", deployment, "-p", f"config={json.dumps(settings)}")
        (new,) = {run["id"] for run in self.flow_runs(name)} - known
        return self.finished(new)

    def tree(self, flow_run: str) -> list[dict[str, Any]]:
        """All sub-flow runs below a flow run."""
        body = {"flow_runs": {"parent_flow_run_id": {"any_": [flow_run]}}}
        below = self.post("flow_runs/filter", body)
        return [*below, *(run for child in below for run in self.tree(child["id"]))]

    def states(self, flow_runs: list[str]) -> set[str]:
        """Names of the states of all their tasks, without those that stand for sub-flows."""
        body = {
            "flow_runs": {"id": {"any_": flow_runs}},
            "task_runs": {"subflow_runs": {"exists_": False}},
            "limit": 200,
        }
        return {run["state_name"] for run in self.post("task_runs/filter", body)}

    def artifacts(self, flow_run: str) -> dict[str, dict[str, Any]]:
        """What a flow run and its tasks show in the UI, by key."""
        body = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
        return {found["key"]: found for found in self.post("artifacts/filter", body)}

    def task_runs(self, flow_run: str, count: int) -> dict[str, dict[str, Any]]:
        """The run's tasks; the server writes their last states down a moment after the flow's."""
        body = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}

        def ended() -> dict[str, dict[str, Any]] | None:
            runs = {run["name"]: run for run in self.post("task_runs/filter", body)}
            done = [run for run in runs.values() if run["state_type"] == "COMPLETED"]
            return runs if len(done) == count else None

        runs: dict[str, dict[str, Any]] = self.wait(f"{count} finished tasks", ended)
        return runs

    def stop(self) -> None:
        for process in reversed(self.processes):  # the worker before the server
            if process.poll() is not None:
                continue
            os.killpg(process.pid, signal.SIGTERM)  # with the flow runs that a worker has started
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
