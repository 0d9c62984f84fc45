"""The file of deployments, and what Prefect is told of it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support.site import PROJECT

from flows.operation.set_up import deployments
from flows.operation.set_up.file import DeploymentsFile
from paraknow_core.errors import ConfigError

ONE = {"name": "demo", "entrypoint": "flows.transfer.transfer"}


def written(folder: Path, told: Any) -> Path:
    file = folder / "deployments.yaml"
    file.write_text(yaml.safe_dump(told))
    return file


def test_the_projects_own_file_is_one() -> None:
    file = DeploymentsFile(PROJECT / "deployments.yaml")
    assert {"demo", "pair", "quick", "nightly"} <= {one["name"] for one in file.deployments}
    assert file.folder == PROJECT
    assert "definitions" not in file.for_prefect


def test_what_the_server_gets_besides_is_checked_and_not_told_to_prefect(tmp_path: Path) -> None:
    server = {
        "limits": {"licence": 2},
        "variables": {"paraknow_remote": "s3://b/c"},
        "notify": "slack-webhook/ops",
    }
    file = DeploymentsFile(written(tmp_path, {"server": server, "deployments": [ONE]}))
    assert file.server.model_dump() == server
    assert "server" not in file.for_prefect


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"deploymnts": []}, "must hold `deployments`"),
        ({"deployments": [ONE, {"name": "x"}]}, "deployment 2 must have"),
        ({"deployments": [], "server": {"limit": {}}}, "limits"),
        ({"deployments": [], "server": {"limits": {"a": -1}}}, "limits"),
        ({"deployments": [], "server": {"limits": {"a/b": 1}}}, "limits"),
        ({"deployments": [], "server": {"variables": {"Big": "x"}}}, "variables"),
        ({"deployments": [], "server": {"notify": "ops"}}, "notify"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, told: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DeploymentsFile(written(tmp_path, told))


class Deployed:
    """A client of a server that has one deployment."""

    def __init__(self, job_variables: dict[str, Any]) -> None:
        self.deployment = SimpleNamespace(id="d", job_variables=job_variables)
        self.sent: list[Any] = []

    def read_deployment_by_name(self, name: str) -> Any:
        assert name == "transfer/demo"
        return self.deployment

    def request(self, method: str, path: str, *, path_params: Any, json: Any) -> None:
        self.sent.append((method, path, path_params, json))


def test_runs_are_given_variables_that_their_deployment_does_not_set() -> None:
    given = {"A": "given", "B": "{{ prefect.variables.b }}"}
    server: Any = Deployed({"stream_output": False, "env": {"A": "own"}})
    name = deployments.full_name(ONE)
    deployments.give_runs(server, name, given)
    ((method, _path, place, body),) = server.sent
    assert (method, place) == ("PATCH", {"id": "d"})
    env = {"A": "own", "B": "{{ prefect.variables.b }}"}
    assert body == {"job_variables": {"stream_output": False, "env": env}}
    server = Deployed({"env": {"A": "own", "B": "own"}})
    deployments.give_runs(server, name, given)
    assert server.sent == []


def test_paths_mean_the_files_folder_wherever_the_command_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def run(command: list[str], **how: Any) -> Any:
        calls.append((command, how))
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("PWD", "/somewhere/else")
    deployments.deploy({"deployments": [ONE]}, tmp_path)
    ((_command, how),) = calls
    assert how["cwd"] == tmp_path
    assert how["env"]["PWD"] == str(tmp_path)
