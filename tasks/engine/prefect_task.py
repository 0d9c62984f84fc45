"""A step as a Prefect task: what the UI shows of it, and when it is tried again."""

from functools import cache
from typing import Any

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from paraknow_core.errors import HubUnreachableError
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.step import C, Step


@cache
def task_of(step: Step[C]) -> Task[..., Ref | State[Ref]]:
    """Return a step as a Prefect task; a hit's state is named Cached and says what it reused."""

    def run(label: str, config: C, inputs: dict[str, Ref], run: RunConfig) -> Ref | State[Ref]:
        ref = run_step(step, label=label, config=config, inputs=inputs, run=run)
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


def _worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Only the network can succeed at a second attempt; anything else fails again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, HubUnreachableError | ConnectionError | TimeoutError)
