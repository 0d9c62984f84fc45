"""A step as a Prefect task: what the UI shows of it, and when it is tried again."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed
from prefect.utilities.annotations import quote

from paraknow_core.errors import HubUnreachableError
from paraknow_core.settings import Settings
from tasks.engine.child import ChildCancelledError
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.step import C, Step


@cache
def task_of(step: Step[C]) -> Task[..., Ref | State[Ref]]:
    """Return a step as a Prefect task; a hit's state is named Cached and says what it reused."""

    def run(
        label: str, config: C, roles: Sequence[str], inputs: Sequence[Ref], run: RunConfig
    ) -> Ref | State[Ref]:
        given = dict(zip(roles, inputs, strict=True))
        try:
            ref = run_step(step, label=label, config=config, inputs=given, run=run)
        except ChildCancelledError as error:
            return Cancelled(message=str(error))
        if step.on_result is not None:
            step.on_result(ref, folder_of(run.open_store(), ref))
        if not ref.cached:
            return ref
        message = (
            f"reused {ref.tree[:16]} (key {ref.key[:16]}), first computed in {ref.seconds:.1f} s"
        )
        return Completed(name="Cached", message=message, data=ref)

    as_task: Task[..., Ref | State[Ref]] = task(  # type: ignore[call-overload]
        run,
        name=step.name,
        task_run_name="{label}",
        description=(step.compute.__doc__ or step.name).strip(),
        cache_policy=NO_CACHE,  # the store is the only cache: Prefect's knows nothing of drift
        persist_result=False,
        retries=step.retries,
        retry_delay_seconds=5,
        retry_condition_fn=_worth_a_retry,
    )
    return as_task


def arguments_of(
    label: str,
    config: Settings,
    inputs: Mapping[str, "PrefectFuture[Any] | Ref | None"],
    run: RunConfig,
) -> dict[str, Any]:
    """Return the arguments of a step's task so that its parents in the UI are its inputs alone.

    Prefect takes any part of an argument that *is* (by ``id``) a part of an earlier task's result
    for a use of that result. Python has each short text, such as "", once, so almost every task
    would seem to use every other. What is quoted is not looked at.

    Args:
        label: how the task run is named.
        config: the step's settings.
        inputs: role → the task that gives it, or what an earlier flow run gave.
        run: store, device, threads.
    """
    return {
        "label": quote(label),
        "config": quote(config),
        "roles": quote(tuple(inputs)),
        "inputs": [i if isinstance(i, PrefectFuture) else quote(i) for i in inputs.values()],
        "run": quote(run),
    }


def _worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Only the network can succeed at a second attempt; anything else fails again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, HubUnreachableError | ConnectionError | TimeoutError)
