"""A real server on SQLite, a real worker, real subprocesses: deploy, run, schedule, reuse."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.pair import pair_settings, write_pair

pytestmark = [pytest.mark.flow, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """One Prefect installation of its own: server, pool, worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        self.processes: list[subprocess.Popen[bytes]] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        self.environment = kept | {
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "OMP_NUM_THREADS": "1",
        }

    def start(self, *command: str) -> None:
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(BIN / "prefect"), *command],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)

    def call(self, *command: str, cwd: Path = PROJECT) -> str:
        done = subprocess.run(
            [str(BIN / "prefect"), "--no-prompt", *command],
            env=self.environment,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return httpx.post(f"{self.api}/{path}", json=body, timeout=30).raise_for_status().json()

    def wait(self, what: str, found: Callable[[], Any], seconds: float = 240) -> Any:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if result := found():
                    return result
            except httpx.TransportError:
                pass
            time.sleep(1)
        logs = "\n".join(p.read_text()[-3000:] for p in sorted(self.folder.glob("*.log")))
        pytest.fail(f"{what} did not come within {seconds} s\n{logs}")

    def flow_runs(self, deployment: str) -> list[dict[str, Any]]:
        body = {"deployments": {"name": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
        runs: list[dict[str, Any]] = self.post("flow_runs/filter", body)
        return runs

    def task_runs(self, flow_run: str, count: int) -> dict[str, dict[str, Any]]:
        """The run's tasks; the server writes their last states down a moment after the flow's."""
        body = {"flow_runs": {"id": {"any_": [flow_run]}}, "limit": 200}

        def ended() -> dict[str, dict[str, Any]] | None:
            runs = {run["name"]: run for run in self.post("task_runs/filter", body)}
            done = [run for run in runs.values() if run["state_type"] == "COMPLETED"]
            return runs if len(done) == count else None

        runs: dict[str, dict[str, Any]] = self.wait(f"{count} finished tasks", ended, 60)
        return runs

    def stop(self) -> None:
        for process in reversed(self.processes):  # the worker before the server
            os.killpg(process.pid, signal.SIGTERM)  # with the flow runs that a worker has started
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.start("server", "start", "--host", "127.0.0.1", "--port", str(site.port))
        site.wait("the server", lambda: httpx.get(f"{site.api}/health").status_code == 200)
        site.call("work-pool", "create", "paraknow", "--type", "process", "--overwrite")
        site.call("deploy", "--all", "--prefect-file", "deployments.yaml")
        site.start("worker", "start", "--pool", "paraknow", "--limit", "1")
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="module")
def settings(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    return pair_settings(folder, tmp_path_factory.mktemp("store"))


def finished(site: Site, flow_run: str) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        run = httpx.get(f"{site.api}/flow_runs/{flow_run}").json()
        return run if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED") else None

    run: dict[str, Any] = site.wait("the end of the run", ended)
    return run


def deployment_run(site: Site, settings: dict[str, Any]) -> dict[str, Any]:
    known = {run["id"] for run in site.flow_runs("pair")}
    site.call("deployment", "run", "transfer/pair", "-p", f"config={json.dumps(settings)}")
    (new,) = {run["id"] for run in site.flow_runs("pair")} - known
    return finished(site, new)


def test_a_deployed_run_goes_end_to_end_and_the_next_one_is_all_cached(
    site: Site, settings: dict[str, Any]
) -> None:
    first = deployment_run(site, settings)
    assert first["state_type"] == "COMPLETED", first["state"]["message"]
    states = {name: run["state_name"] for name, run in site.task_runs(first["id"], 15).items()}
    assert set(states.values()) == {"Completed"}
    assert {"sensitivity", "decompose", "finetune transfer", "report"} <= states.keys()

    second = deployment_run(site, settings)
    again = site.task_runs(second["id"], 15)
    assert {run["state_name"] for run in again.values()} == {"Cached"}
    assert again.keys() == states.keys()
    assert "reused" in again["sensitivity"]["state"]["message"]


def test_table_and_heat_map_are_artifacts_of_the_run(site: Site, settings: dict[str, Any]) -> None:
    run = deployment_run(site, settings)
    body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    artifacts = {a["key"]: a["data"] for a in site.post("artifacts/filter", body)}
    assert "| transfer |" in artifacts["transfer-summary"]
    assert "data:image/png;base64," in artifacts["sensitivity-heat-map"]


def test_progress_of_the_long_steps_is_an_artifact(site: Site, settings: dict[str, Any]) -> None:
    other = settings | {"sensitivity": {"cutoff": 64}, "finetune": {"seed": 7, "batch_size": 8}}
    run = deployment_run(site, other)
    body = {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}}
    done = {a["key"]: a["data"] for a in site.post("artifacts/filter", body)}
    for step in ("sensitivity", "finetune-transfer", "evaluate-transfer"):
        assert done[f"{step}-progress"] == 100


def test_a_run_that_cannot_work_fails_with_a_readable_message(
    site: Site, settings: dict[str, Any]
) -> None:
    run = deployment_run(site, settings | {"teacher": {"model": "/nowhere/at/all"}})
    assert run["state_type"] == "FAILED"
    assert "/nowhere/at/all" in run["state"]["message"]
    assert "no folder" in run["state"]["message"]


def test_a_wrong_parameter_is_refused_at_submission(site: Site, settings: dict[str, Any]) -> None:
    wrong = json.dumps(settings | {"lora": {"rank": -1}})
    with pytest.raises(AssertionError, match="rank"):
        site.call("deployment", "run", "transfer/pair", "-p", f"config={wrong}")


def test_a_schedule_fires_by_itself(site: Site, settings: dict[str, Any], tmp_path: Path) -> None:
    """The library versions that break Prefect's scheduler let everything else work."""
    deployments = {
        "name": "scheduled",
        "deployments": [
            {
                "name": "every-few-seconds",
                "entrypoint": "flows.transfer.transfer",
                "parameters": {"config": settings, "until": "lora"},
                "schedules": [{"interval": 5, "slug": "often"}],
                "work_pool": {"name": "paraknow"},
            }
        ],
    }
    (tmp_path / "scheduled.yaml").write_text(yaml.safe_dump(deployments))
    site.call("deploy", "--all", "--prefect-file", "scheduled.yaml", cwd=tmp_path)

    def completed() -> bool:
        runs = site.flow_runs("every-few-seconds")
        return any(r["auto_scheduled"] and r["state_type"] == "COMPLETED" for r in runs)

    assert site.wait("a scheduled run", completed)
