"""A comparison on two machines: a killed parent, a lost worker, and a server that goes and returns.

The machines are workers with stores of their own and one bucket of an S3 server; Prefect's server
has its database in PostgreSQL where that is installed. What the automation of docs/operations.md
does a minute and a half after a machine's end (mark its run Crashed), the test does at once.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings
from support import postgres
from support.direct import compare_direct
from support.pair import pair_settings, write_pair, write_rows
from support.patience import PATIENCE
from support.s3_server import BUCKET, s3_server
from support.site import PROJECT, Site

from artifacts.store import Store
from flows.config.compare import CompareConfig
from flows.results.dataset import read, results_folder

pytestmark = [pytest.mark.flow, pytest.mark.timeout(2400)]

MAIN = "from flows.cli.main import main; main()"
COMPUTING = re.compile(r"(\S[^|]*): computing, key (\w{12})")
AWAY = float(os.environ.get("PARAKNOW_SERVER_AWAY", "3"))
"""Seconds that the server is away; 20 and more were tried by hand (docs/operations.md)."""


class Machine:
    """A worker with a store of its own."""

    def __init__(self, site: Site, name: str, gpu: str) -> None:
        self.site, self.name = site, name
        self.store = site.folder / name
        self.more = {
            "PARAKNOW_STORE": str(self.store),
            "CUDA_VISIBLE_DEVICES": gpu,
            "PYTHONPATH": f"{PROJECT}:{PROJECT / 'tests'}",
        }
        self.logs: list[Path] = []
        self.start()

    def start(self) -> None:
        self.logs.append(self.site.folder / f"{len(self.site.processes)}.log")
        command = ("worker", "start", "--pool", "paraknow", "--limit", "1", "--name", self.name)
        self.process = self.site.start(*command, more=self.more)

    def lose(self) -> None:
        """SIGKILL the worker and all that it has started: as if its machine had lost power."""
        worker = psutil.Process(self.process.pid)
        for process in [worker, *worker.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def said(self) -> str:
        return "".join(log.read_text(errors="replace") for log in self.logs)

    def computed(self) -> list[tuple[str, str]]:
        """Label and key of every computation that it began."""
        return [(label.strip(), key) for label, key in COMPUTING.findall(self.said())]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("fan-out")
    with contextlib.ExitStack() as running:
        shared = {"PARAKNOW_REMOTE": f"s3://{BUCKET}/shared"}
        running.enter_context(s3_server(shared.__setitem__))
        if place := postgres.programs():
            address = running.enter_context(postgres.database(place))
            shared["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = address
        site = Site(folder, shared)
        running.callback(site.stop)
        site.start_server()
        with temporary_settings({PREFECT_API_URL: site.api}):
            deploy()
        yield site


def deploy() -> None:
    """Make the pool and the deployment, as `paraknow init-server` does in ten seconds more."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="paraknow", type="process"))
        step = {"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}
        client.create_deployment(
            client.create_flow_from_name("compare-cells"),
            "cells",
            work_pool_name="paraknow",
            entrypoint="support.fanned.compare_cells",
            pull_steps=[step],
            job_variables={"env": {"PREFECT_LOGGING_EXTRA_LOGGERS": "paraknow,artifacts"}},
        )


def comparison(folder: Path) -> dict[str, Any]:
    """Two pairs on four tasks, in a run for each pair."""
    one = pair_settings(write_pair(folder), folder)

    def pair(student: str) -> dict[str, Any]:
        models = {"teacher": one["teacher"], "student": {"model": str(folder / student)}}
        return {"name": f"teacher-{student}", **models}

    def task(seed: int) -> dict[str, Any]:
        rows = write_rows(folder / f"rows-{seed}.jsonl", 60, seed=seed)
        return {"name": f"words-{seed}", "data": {**one["data"], "rows": {"path": str(rows)}}}

    return {
        "name": "tiny",
        "pairs": [pair("student"), pair("other")],
        "tasks": [task(seed) for seed in range(4)],
        "methods": ["plain"],
        "settings": {step: one[step] for step in ("lora", "finetune", "evaluate")},
        "tuning": {"learning_rates": [1e-2], "seeds": []},
        "seeds": [0, 1],
        "run": {"device": "cpu", "threads": 1},
        "fan_out": {"deployment": "compare-cells/cells", "by": "pair", "in_flight": 2},
    }


def start_parent(site: Site, config: Path, log: Path) -> "subprocess.Popen[str]":
    with log.open("w") as said:
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, "compare", str(config), "--json"],
            env=site.environment | {"PARAKNOW_STORE": str(site.folder / "here")},
            cwd=PROJECT,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
        )


def of_flow(site: Site, flow: str) -> list[dict[str, Any]]:
    """The runs of a flow that have not ended."""
    ended = ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
    found = site.post("flow_runs/filter", {"flows": {"name": {"any_": [flow]}}})
    return [run for run in found if run["state_type"] not in ended]


def crash(site: Site, runs: list[dict[str, Any]]) -> None:
    """Mark runs Crashed, as the automation does."""
    assert len(runs) == 1
    state = {"state": {"type": "CRASHED", "message": "no heartbeat"}, "force": True}
    site.post(f"flow_runs/{runs[0]['id']}/set_state", state)


def reference(settings: dict[str, Any], store: Path) -> dict[str, str]:
    """Key → content of every result, computed in this process."""
    run = {**settings["run"], "store": str(store)}
    config = CompareConfig.model_validate({**settings, "run": run})
    assert [outcome.first_reason for outcome in compare_direct(config)] == [""] * 8
    return contents(store)


def contents(store: Path) -> dict[str, str]:
    steps = (record for record in Store.open(store).records() if record.step != "comparison")
    return {record.key: record.tree for record in steps}


def test_eight_cells_survive_parent_worker_and_server(site: Site) -> None:
    settings = comparison(site.folder)
    config = site.folder / "compare.yaml"
    config.write_text(yaml.safe_dump(settings))

    killed = start_parent(site, config, site.folder / "killed.err")
    site.wait("runs that the first parent submitted", lambda: len(site.flow_runs("cells")) == 2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    crash(site, of_flow(site, "compare"))

    # It follows both runs before any machine is there: a server that goes while a parent starts
    # ends that parent with one sentence, which is not what is tried here.
    log = site.folder / "parent.err"
    parent = start_parent(site, config, log)
    site.wait("its runs", lambda: log.read_text().count("is under way already") == 2)
    alone = Machine(site, "first", gpu="0")
    other = Machine(site, "second", gpu="1")
    site.wait("training", lambda: any("finetune" in label for label, _ in alone.computed()))
    (lost,) = (run for run in of_flow(site, "compare-cells") if run["id"] in alone.said())
    alone.lose()
    under_way = {key for _, key in alone.computed()} - {key[:12] for key in contents(alone.store)}

    server = site.processes[0]
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    time.sleep(AWAY)
    site.start_server()
    crash(site, [lost])
    alone.start()  # the machine is back

    expected = reference(settings, site.folder / "reference")
    out, _ = parent.communicate(timeout=3 * PATIENCE)
    said = log.read_text()
    assert parent.returncode == 0, said
    result = json.loads(out)
    assert (result["results"], result["failed"]) == (16, 0)
    assert "is under way already" in said

    # All cells are right: the contents of one process's results, here and on both machines.
    here = contents(site.folder / "here")
    assert here.items() <= expected.items()
    found = contents(alone.store) | contents(other.store)
    assert found == expected
    rows = read(results_folder(site.folder / "here"))
    assert set(rows["evaluation_key"]) <= here.keys()
    assert len(rows) == 16

    # Nothing was computed twice but what was under way on the lost machine.
    began = Counter(key for machine in (alone, other) for _, key in machine.computed())
    assert {key for key, times in began.items() if times > 1} <= under_way
    assert len(under_way) <= 1
    assert {label.split()[-1] for label, _key in COMPUTING.findall(said)} == {"report"}

    # Each run had the slot of its worker; the lost one was started again.
    runs = site.flow_runs("cells")
    assert "begun on GPU 0" in alone.said()
    assert "begun on GPU 1" in other.said()
    assert Counter(run["state_type"] for run in runs) == {"COMPLETED": 2, "CRASHED": 1}
    assert f"{lost['name']}, attempt 2" in {run["name"] for run in runs}
    assert of_flow(site, "compare-cells") + of_flow(site, "compare") == []
