"""A real server on SQLite, a real worker, real subprocesses: deploy, run, schedule, reuse."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.pair import pair_settings, write_pair
from support.patience import PATIENCE
from support.site import PROJECT, Site
from support.webhook import listening

from tasks.engine.devices.turn import limit_name

pytestmark = [pytest.mark.flow, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def settings(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    return pair_settings(folder, tmp_path_factory.mktemp("store"))


def deployment_run(site: Site, settings: dict[str, Any]) -> dict[str, Any]:
    return site.deployment_run("transfer/pair", settings)


def test_a_deployed_run_goes_end_to_end_and_the_next_one_is_all_cached(
    site: Site, settings: dict[str, Any]
) -> None:
    first = deployment_run(site, settings)
    assert first["state_type"] == "COMPLETED", first["state"]["message"]
    states = {name: run["state_name"] for name, run in site.task_runs(first["id"], 15).items()}
    assert set(states.values()) == {"Completed"}
    assert {"sensitivity", "decompose", "finetune transfer", "report"} <= states.keys()

    with_taken_cpu = {"names": [limit_name("cpu")], "slots": 1, "lease_duration": 600}
    site.post("v2/concurrency_limits/", {"name": limit_name("cpu"), "limit": 1})
    try:  # what computes nothing waits for nobody
        assert site.post("v2/concurrency_limits/increment-with-lease", with_taken_cpu)["limits"]
        second = deployment_run(site, settings)
    finally:
        site.delete(f"v2/concurrency_limits/{limit_name('cpu')}")
    again = site.task_runs(second["id"], 15)
    assert {run["state_name"] for run in again.values()} == {"Cached"}
    assert again.keys() == states.keys()
    assert "reused" in again["sensitivity"]["state"]["message"]


TURNS = """
import sys, time
from pathlib import Path
from prefect import flow, task
from tasks.engine.devices.turn import turn

folder, name = Path(sys.argv[1]), sys.argv[2]
locks = folder / name  # not shared, as those of two containers: only the server knows of both
locks.mkdir()

@task(persist_result=False)
def compute():
    with turn("cuda", {"CUDA_VISIBLE_DEVICES": "7"}, label="s", locks=locks, check=lambda: None):
        with (folder / "log").open("a") as log:
            log.write(f"{name} on\\n")
        time.sleep(2)
        with (folder / "log").open("a") as log:
            log.write(f"{name} off\\n")

@flow(persist_result=False)
def two_steps():
    compute()
    compute()

two_steps()
"""


def test_runs_take_turns_on_a_gpu_by_a_limit_of_the_server(site: Site, tmp_path: Path) -> None:
    environment = site.environment | {"PYTHONPATH": str(PROJECT)}
    both = [
        subprocess.Popen([sys.executable, "-c", TURNS, str(tmp_path), name], env=environment)
        for name in "ab"
    ]
    for process in both:
        assert process.wait(3 * PATIENCE) == 0
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [what for _, what in lines] == ["on", "off"] * 4, "two had it at once"
    limit = site.get(f"v2/concurrency_limits/{limit_name('gpu7')}")
    assert (limit["limit"], limit["active_slots"]) == (1, 0)


def test_table_and_heat_map_are_artifacts_of_the_run(site: Site, settings: dict[str, Any]) -> None:
    run = deployment_run(site, settings)
    artifacts = site.artifacts(run["id"])
    assert "| transfer |" in artifacts["transfer-summary"]["data"]
    assert "data:image/png;base64," in artifacts["sensitivity-heat-map"]["data"]
    result = artifacts["result"]
    assert result["task_run_id"] is None
    assert "| transfer |" in result["data"]
    assert re.search(r"\| finetune transfer \| `([0-9a-f]{16})` ", result["data"])
    assert len(re.findall(r"^paraknow deliver [0-9a-f]{16} DIR", result["data"], re.M)) == 2
    assert "lora:" in result["data"]


def test_progress_of_the_long_steps_is_an_artifact(site: Site, settings: dict[str, Any]) -> None:
    other = settings | {"sensitivity": {"cutoff": 64}, "finetune": {"seed": 7, "batch_size": 8}}
    run = deployment_run(site, other)
    done = site.artifacts(run["id"])
    for step in ("sensitivity", "finetune-transfer", "evaluate-transfer"):
        assert done[f"{step}-progress"]["data"] == 100


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


def test_a_run_is_submitted_with_settings_of_its_own(site: Site, settings: dict[str, Any]) -> None:
    given = [f"{name}={json.dumps(value)}" for name, value in settings.items()]
    sets = [word for one in (*given, "finetune.seed=1", "name=mine") for word in ("--set", one)]
    done = site.paraknow("submit", "transfer/pair", *sets, "--name", "one of mine", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "submitted: one of mine, run " in done.stdout
    assert "Completed" in done.stdout
    unknown = site.paraknow("submit", "transfer/pear")
    assert unknown.returncode == 2
    assert "transfer/pair" in unknown.stderr
    assert "Traceback" not in unknown.stderr


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
    deployed = site.get("deployments/name/transfer/every-few-seconds")

    def completed() -> bool:
        runs = site.flow_runs("every-few-seconds")
        return any(r["auto_scheduled"] and r["state_type"] == "COMPLETED" for r in runs)

    try:
        assert site.wait("a scheduled run", completed)
    finally:  # else the tests after this one wait behind a run every five seconds
        (schedule,) = deployed["schedules"]
        path = f"deployments/{deployed['id']}/schedules/{schedule['id']}"
        site.patch(path, {"active": False})


def test_deploying_again_keeps_what_an_operator_set(site: Site) -> None:
    nightly = site.get("deployments/name/compare/nightly")
    (schedule,) = nightly["schedules"]
    path = f"deployments/{nightly['id']}/schedules"
    other = {"schedule": {"cron": "0 3 1 1 *", "timezone": "UTC"}, "active": False, "slug": "mine"}
    site.post(path, [other])
    site.patch(f"{path}/{schedule['id']}", {"active": True})
    site.patch("work_pools/paraknow", {"concurrency_limit": 7})
    try:
        said = site.init_server()
        assert "compare/nightly: schedules kept (mine off, nightly on)" in said
        found = site.get("deployments/name/compare/nightly")["schedules"]
        assert {(s["slug"], s["active"]) for s in found} == {("mine", False), ("nightly", True)}
        assert site.get("work_pools/paraknow")["concurrency_limit"] == 7
        names = [made["name"] for made in site.post("automations/filter", {})]
        assert len(names) == len(set(names)) == 3
    finally:
        site.patch(f"{path}/{schedule['id']}", {"active": False})
        site.patch("work_pools/paraknow", {"concurrency_limit": None})


def test_a_server_gets_limits_variables_and_whom_to_tell(
    site: Site, settings: dict[str, Any], tmp_path: Path
) -> None:
    """A failed scheduled run calls a webhook; runs get variables of the server."""
    with listening() as (url, calls):
        kind = site.get("block_types/slug/custom-webhook")["id"]
        (schema,) = site.post(
            "block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}}
        )[:1]
        block = {"name": "Ops", "url": url, "json_data": {"said": "{{subject}}"}}
        site.post(
            "block_documents/",
            {"name": "ops", "data": block, "block_type_id": kind, "block_schema_id": schema["id"]},
        )
        run = {name: value for name, value in settings["run"].items() if name != "store"}
        wrong = settings | {"teacher": {"model": "/nowhere/at/all"}, "run": run}
        told = {
            "server": {
                "limits": {"licence": 2, "bandwidth": 4},
                "variables": {"paraknow_store": str(tmp_path / "its-own")},
                "notify": "custom-webhook/ops",
            },
            "pull": [
                {"prefect.deployments.steps.set_working_directory": {"directory": "{{ $PWD }}"}}
            ],
            "deployments": [
                {
                    "name": "failing",
                    "entrypoint": "flows.transfer.transfer",
                    "parameters": {"config": wrong},
                    "work_pool": {"name": "paraknow"},
                }
            ],
        }
        file = tmp_path / "deployments.yaml"
        file.write_text(yaml.safe_dump(told))
        site.post("v2/concurrency_limits/", {"name": "licence", "limit": 3})
        done = site.paraknow("init-server", str(file))
        assert done.returncode == 0, done.stderr
        assert "limit licence: kept as it is (3; the file has 2)" in done.stdout
        assert "limit bandwidth: made (4)" in done.stdout
        assert done.stdout.count("notifies custom-webhook/ops now") == 2
        assert site.get("v2/concurrency_limits/bandwidth")["limit"] == 4
        deployed = site.get("deployments/name/transfer/failing")
        (pull,) = deployed["pull_steps"]
        assert list(pull.values()) == [{"directory": str(tmp_path)}]
        given = deployed["job_variables"]["env"]["PARAKNOW_STORE"]
        assert given == "{{ prefect.variables.paraknow_store }}"
        # A schedule's own run would be told of a quarter of an hour later: docs/operations.md.
        scheduled = {"state": {"type": "SCHEDULED"}, "tags": ["auto-scheduled"]}
        site.post(f"deployments/{deployed['id']}/create_flow_run", scheduled)
        site.wait("a call of the webhook", lambda: calls)
        assert "failing: Failed" in calls[0]
        assert (tmp_path / "its-own" / "store.json").is_file()
        site.delete("variables/name/paraknow_store")


def test_a_worker_that_dies_is_started_again(site: Site) -> None:
    log = site.folder / "0.log"
    (worker,) = (p for p in psutil.Process(site.processes[0].pid).children() if is_worker(p))
    worker.kill()
    site.wait("another worker", lambda: "worker: started again" in log.read_text())
    assert "worker: was ended by SIGKILL; it is started again in" in log.read_text()


def is_worker(process: psutil.Process) -> bool:
    return "worker" in process.cmdline() and "--pool" in process.cmdline()
