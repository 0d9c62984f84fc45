"""Where the tasks of a flow run are carried out: threads of its process, or a Ray cluster."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol

from flows.server.server_settings import server_is_set
from paraknow_core.errors import ConfigError
from tasks.engine.run import RunConfig

if TYPE_CHECKING:
    from prefect import Task
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner


class SubmitTask(Protocol):
    """Submits a task of the present flow run."""

    def __call__(
        self, task: "Task[..., Any]", arguments: Mapping[str, Any], run: RunConfig, *, gpus: int
    ) -> "PrefectFuture[Any]":
        """Submit it.

        Args:
            task: of a step.
            arguments: of its function; inputs may be futures.
            run: how the run is carried out.
            gpus: how many the step computes on at once.
        """


def check_task_runner(run: RunConfig) -> None:
    """Refuse a task runner that cannot be had here, before anything runs.

    Raises:
        ConfigError: says what is missing.
    """
    _CHECKS[run.task_runner](run)


def _no_check(_run: RunConfig) -> None:
    """Threads are always there."""


def _check_ray(run: RunConfig) -> None:
    if find_spec("prefect_ray") is None:
        raise ConfigError("run.task_runner: ray needs `pip install 'paraknow[ray]'` on every node")
    if run.device == "auto":
        raise ConfigError(
            "run.task_runner: ray needs run.device: cpu or cuda, as nodes may differ in what auto "
            "would choose"
        )
    if not server_is_set():
        raise ConfigError(
            "run.task_runner: ray needs a Prefect server that its nodes reach: set PREFECT_API_URL"
        )


def _on_threads(
    task: "Task[..., Any]",
    arguments: Mapping[str, Any],
    run: RunConfig,  # noqa: ARG001
    *,
    gpus: int,  # noqa: ARG001
) -> "PrefectFuture[Any]":
    future: PrefectFuture[Any] = task.submit(**arguments)
    return future


def _on_ray(
    task: "Task[..., Any]", arguments: Mapping[str, Any], run: RunConfig, *, gpus: int
) -> "PrefectFuture[Any]":
    from prefect.context import FlowRunContext
    from prefect_ray.context import remote_options

    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - steps are submitted in flow runs alone
    # A step that was lost with its node is not computed again in silence: its error is seen, and
    # the run is submitted again.
    options = {"num_cpus": run.threads or 1, "num_gpus": gpus, "max_retries": 0}
    here = context.model_copy(update={"task_runner": _cluster(run.ray_address)})
    with here, remote_options(**options):
        future: PrefectFuture[Any] = task.submit(**arguments)
        return future


@cache
def _cluster(address: str) -> "TaskRunner[Any]":
    """Connect to a cluster, or start one here; it is left when this process ends."""
    import copyreg

    from prefect.utilities.annotations import quote
    from prefect_ray import RayTaskRunner

    # A tuple of one value that is made of that value: pickled as a tuple, "a" comes back as ("a",).
    copyreg.pickle(quote, lambda quoted: (quote, (quoted.unwrap(),)))
    runner: TaskRunner[Any] = RayTaskRunner(address=address or None)
    return runner.__enter__()


_CHECKS: Final[Mapping[str, Callable[[RunConfig], None]]] = MappingProxyType(
    {"threads": _no_check, "ray": _check_ray}
)
SUBMIT: Final[Mapping[str, SubmitTask]] = MappingProxyType({"threads": _on_threads, "ray": _on_ray})
"""Name of a task runner (``run.task_runner``) → how it is given a task."""
