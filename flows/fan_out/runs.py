"""Runs of a deployment that are submitted, followed to their ends, and cancelled together.

Prefect's server may be away for minutes, and a run may be lost with its machine: neither is an end.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Crashed

from flows.fan_out.units import Unit
from flows.server.server_settings import ServerError
from tasks.engine.progress import logger
from tasks.engine.workers import WorkersClosedError

T = TypeVar("T")

ASK_SECONDS: Final = 2.0
"""Between two looks at a run; each is one request."""
SERVER_PATIENCE: Final = 900.0
"""Seconds that a server may be away."""
PENDING: Final = timedelta(minutes=10)
"""After which a run that a worker took and never began counts as lost with it."""
UNTAKEN: Final = timedelta(minutes=1)
"""After which it is said that no worker takes a run."""
_KNOWN_RUNS: Final = 200
_SERVER_ERRORS: Final = 500


class ChildRuns:
    """The runs that one comparison has under way.

    Args:
        deployment: FLOW/NAME.
    """

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._living: set[UUID] = set()

    def run(self, unit: Unit, parameters: dict[str, Any]) -> FlowRun:
        """Have a unit computed, and return its run once that has ended, however it did.

        A run of the same unit that is under way already, such as one that an earlier, killed
        comparison submitted, is followed in place of a new one.

        Args:
            unit: what is computed.
            parameters: of the flow.

        Raises:
            WorkersClosedError: once `cancel` was called.
            ServerError: if the server stays away.
        """
        # Prefect's own repetitions wait up to half a minute longer than the server is away.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            return self._run(unit, parameters)

    def _run(self, unit: Unit, parameters: dict[str, Any]) -> FlowRun:
        while True:
            run = self._submitted(unit, parameters)
            leaving = run.state is not None and run.state.type == StateType.CANCELLING
            try:
                ended = self._followed(run)
            except ObjectNotFound:
                logger.warning("%s: run %s is no longer on the server", unit.name, run.name)
                continue
            if not leaving:
                return ended

    def cancel(self) -> None:
        """Cancel what is under way, and let nothing new begin."""
        self._over.set()
        with self._lock:
            living = list(self._living)
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            for run in living:
                _cancel(run)

    def _submitted(self, unit: Unit, parameters: dict[str, Any]) -> FlowRun:
        known = self._ask(lambda client: _runs_of(client, unit))
        living = next((run for run in known if run.state and not run.state.is_final()), None)
        attempt = 1 + max((_attempt_of(run) for run in known), default=0)
        if living is not None:
            logger.info("%s: run %s is under way already", unit.name, living.name)
            run = living
        else:
            name = unit.name if attempt == 1 else f"{unit.name}, attempt {attempt}"
            run = self._ask(lambda _client: self._submit(unit, parameters, name, attempt))
            logger.info("%s: submitted as run %r of %s", unit.name, run.name, self._deployment)
        with self._lock:
            self._living.add(run.id)
        if self._over.is_set():  # cancelled while it was being submitted
            _cancel(run.id)
        return run

    def _submit(self, unit: Unit, parameters: dict[str, Any], name: str, attempt: int) -> FlowRun:
        run = run_deployment(  # here, in a thread without a loop, it is not a coroutine
            self._deployment,
            parameters=parameters,
            flow_run_name=name,
            timeout=0,
            tags=unit.tags,
            idempotency_key=f"{unit.key}-{attempt}",
        )
        return cast("FlowRun", run)

    def _followed(self, run: FlowRun) -> FlowRun:
        """Wait for a run's end."""
        told = False
        while True:
            found = self._ask(lambda client: client.read_flow_run(run.id))
            if found.state is not None and found.state.is_final():
                break
            if found.state is not None:
                told = told or self._tell_untaken(found, found.state)
                self._give_up_pending(found, found.state)
            self._wait()
        with self._lock:
            self._living.discard(run.id)
        return found

    def _tell_untaken(self, run: FlowRun, state: State[Any]) -> bool:
        due = state.state_details.scheduled_time or state.timestamp
        if state.type != StateType.SCHEDULED or datetime.now(UTC) - due < UNTAKEN:
            return False
        logger.warning(
            "%s: no worker has taken its run for a minute. Is one there that has nothing else to "
            "do (`prefect work-pool inspect %s`)? A worker with --limit 1 that runs this "
            "comparison cannot take its runs as well.",
            run.name,
            run.work_pool_name or "paraknow",
        )
        return True

    def _give_up_pending(self, run: FlowRun, state: State[Any]) -> None:
        """Mark a run lost that a worker took and never began: no heartbeat tells of it."""
        if state.type == StateType.PENDING and datetime.now(UTC) - state.timestamp > PENDING:
            lost: State[Any] = Crashed(message=f"Pending for {PENDING}: its worker is gone")
            self._ask(lambda client: client.set_flow_run_state(run.id, lost))

    def _ask(self, ask: Callable[[SyncPrefectClient], T]) -> T:
        """Ask the server until it answers."""
        began = None
        while True:
            if self._over.is_set():
                raise _interrupted()
            try:
                with get_client(sync_client=True) as client:
                    return ask(client)
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                began = self._bear(error, began)
            self._wait()

    def _bear(self, error: Exception, began: float | None) -> float:
        """Return since when the server has been away; raise what is no absence, or takes too long.

        Raises:
            ServerError: if it was away for too long.
        """
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < _SERVER_ERRORS:
            raise error
        now = time.monotonic()
        if began is None:
            logger.warning(
                "Prefect's server does not answer (%s). What is under way goes on; asking again",
                type(error).__name__,
            )
            return now
        if now - began > SERVER_PATIENCE:
            raise ServerError(
                f"Prefect's server has not answered for {SERVER_PATIENCE:.0f} s. What is under way "
                "goes on; when the server is back, run this comparison again to go on with it"
            ) from error
        return began

    def _wait(self) -> None:
        if self._over.wait(ASK_SECONDS):
            raise _interrupted()


def _interrupted() -> WorkersClosedError:
    return WorkersClosedError("interrupted: run the same command again to go on")


def _runs_of(client: SyncPrefectClient, unit: Unit) -> list[FlowRun]:
    """Return all runs of a unit that the server knows, the newest first."""
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[unit.tag]))
    newest = FlowRunSort.EXPECTED_START_TIME_DESC
    return client.read_flow_runs(flow_run_filter=wanted, sort=newest, limit=_KNOWN_RUNS)


def _attempt_of(run: FlowRun) -> int:
    number = (run.idempotency_key or "").rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _cancel(run: UUID) -> None:
    """Ask for the end of a run; a server that is away cancels it with its parent, or not at all."""
    with (
        suppress(httpx.HTTPError, ObjectNotFound),
        get_client(sync_client=True) as client,
    ):
        client.set_flow_run_state(run, State(type=StateType.CANCELLING))
