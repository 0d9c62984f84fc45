"""A slot of a global concurrency limit on the Prefect server that a run reports to."""

import functools
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from tasks.engine.devices.locks import Waiting
from tasks.engine.progress import logger

LEASE_SECONDS: Final = 60.0
"""A killed holder's slot is free that long after its last sign of life; Prefect allows no less."""
_POLL_SECONDS: Final = 1.0
_TAKEN: Final = 423


@contextmanager
def server_slot(name: str, *, make: bool, waiting: Waiting) -> Iterator[bool]:
    """Hold a slot of a limit, if the run reports to a server that has one.

    A server that does not answer costs the slot, never the step.

    Args:
        name: of the limit.
        make: whether to make it, with one slot, where it is not.
        waiting: what is done while all slots are taken.

    Yields:
        Whether a slot is held.
    """
    held = _acquire(name, make=make, waiting=waiting)
    try:
        yield held is not None
    finally:
        if held is not None:
            _release(name, held)


def _acquire(name: str, *, make: bool, waiting: Waiting) -> AbstractContextManager[None] | None:
    if "prefect.context" not in sys.modules:  # its import takes seconds, and this is no task run
        return None
    from prefect.context import TaskRunContext
    from prefect.settings import get_current_settings

    context, url = TaskRunContext.get(), get_current_settings().api.url
    if context is None or not url:  # a server of the run's own knows no other run
        return None
    try:
        if not _is_there(url, name, make=make):
            return None
        return _granted(name, str(context.task_run.id), waiting)
    except _server_errors() as error:
        logger.warning(
            "no slot of the limit %s (%s); carrying on without", name, type(error).__name__
        )
        return None


def _granted(name: str, task_run: str, waiting: Waiting) -> AbstractContextManager[None]:
    """Ask again and again: Prefect's own waiting is longer, and cannot be interrupted."""
    from prefect.client.schemas.objects import ConcurrencyLeaseHolder
    from prefect.concurrency.sync import concurrency

    holder = ConcurrencyLeaseHolder.model_validate({"type": "task_run", "id": task_run})
    began = time.monotonic()
    while True:
        held = concurrency(
            name,
            max_retries=0,
            lease_duration=LEASE_SECONDS,
            holder=holder,
            raise_on_lease_renewal_failure=False,
        )
        try:
            held.__enter__()
        except _server_errors() as error:
            if getattr(getattr(error.__cause__, "response", None), "status_code", 0) != _TAKEN:
                raise
        else:
            return held
        waiting(time.monotonic() - began)
        time.sleep(_POLL_SECONDS)


def _release(name: str, held: AbstractContextManager[None]) -> None:
    try:
        held.__exit__(None, None, None)
    except Exception as error:  # noqa: BLE001 - what was computed is not lost for that
        logger.warning(
            "the slot of %s was not given back (%s); it is free when its lease has run out",
            name,
            type(error).__name__,
        )


@functools.cache
def _is_there(url: str, name: str, *, make: bool) -> bool:  # noqa: ARG001 - asked once a server
    """Tell whether the server has the limit, which may be made."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            if not make:
                return False
            try:
                wanted = GlobalConcurrencyLimitCreate(name=name, limit=1)
                client.create_global_concurrency_limit(wanted)
            except ObjectAlreadyExists:
                pass  # another run has made it this moment
            else:
                logger.info("made the limit %s, with one slot: runs take turns on it", name)
    return True


def _server_errors() -> tuple[type[Exception], ...]:
    import httpx
    from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
    from prefect.exceptions import PrefectException

    return httpx.HTTPError, ConcurrencySlotAcquisitionError, PrefectException
