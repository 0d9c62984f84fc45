"""Which of Prefect's task runners a run's steps are given to. Ray's own is not here: a stand-in."""

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.utilities.annotations import quote
from support.pair import pair_settings

from flows.config.transfer import TransferConfig
from flows.graph import task_runners
from flows.transfer import transfer
from paraknow_core.errors import ConfigError
from tasks.engine.run import RunConfig

OPTIONS: Final[list[dict[str, Any]]] = []


class RayTaskRunner(ThreadPoolTaskRunner):  # type: ignore[type-arg]
    """Runs tasks in threads, and notes that it did."""

    made: Final[list["RayTaskRunner"]] = []

    def __init__(self, address: str | None = None) -> None:
        super().__init__()
        self.address = address
        self.given: list[str] = []
        self.made.append(self)

    def submit(self, task: Any, *given: Any, **more: Any) -> Any:
        self.given.append(task.name)
        return super().submit(task, *given, **more)


@contextmanager
def remote_options(**options: Any) -> Iterator[None]:
    OPTIONS.append(options)
    yield


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    package, context = ModuleType("prefect_ray"), ModuleType("prefect_ray.context")
    package.__spec__ = ModuleSpec("prefect_ray", None)
    package.RayTaskRunner = RayTaskRunner  # type: ignore[attr-defined]
    context.remote_options = remote_options  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "prefect_ray", package)
    monkeypatch.setitem(sys.modules, "prefect_ray.context", context)
    task_runners._cluster.cache_clear()
    yield
    task_runners._cluster.cache_clear()


def test_ray_without_its_extra_is_refused_before_anything_runs() -> None:
    run = RunConfig(task_runner="ray", device="cpu")
    if "prefect_ray" not in sys.modules:
        with pytest.raises(ConfigError, match=r"pip install 'paraknow\[ray\]'"):
            task_runners.check_task_runner(run)
    task_runners.check_task_runner(RunConfig())


@pytest.mark.usefixtures("ray")
def test_a_device_that_nodes_would_choose_is_refused() -> None:
    with pytest.raises(ConfigError, match="cpu or cuda"):
        task_runners.check_task_runner(RunConfig(task_runner="ray"))


@pytest.mark.usefixtures("ray")
def test_nodes_that_would_report_to_nobody_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runners, "server_is_set", lambda: False)
    with pytest.raises(ConfigError, match="PREFECT_API_URL"):
        task_runners.check_task_runner(RunConfig(task_runner="ray", device="cpu"))


@pytest.mark.flow
@pytest.mark.usefixtures("ray", "prefect_server")
def test_steps_are_given_to_ray_with_what_they_need(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = pair_settings(pair, tmp_path)
    run = {"task_runner": "ray", "ray_address": "ray://head:10001", "device": "cpu", "threads": 2}
    config = TransferConfig.model_validate(settings | {"run": settings["run"] | run})
    monkeypatch.setattr(task_runners, "server_is_set", lambda: True)
    result = transfer(config, until="acquire")
    (runner,) = RayTaskRunner.made
    assert runner.address == "ray://head:10001"
    assert len(runner.given) == len(result.steps) == len(OPTIONS)
    assert OPTIONS[0] == {"num_cpus": 2, "num_gpus": 0, "max_retries": 0}
    # What Prefect quotes is to arrive on a node as it was sent.
    assert pickle.loads(pickle.dumps(quote("label"))).unwrap() == "label"
