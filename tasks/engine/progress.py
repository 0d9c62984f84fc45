"""Progress of long steps: lines for terminal and log, an artifact for the Prefect UI."""

import logging
import re
import time
from collections.abc import Callable
from uuid import UUID

logger = logging.getLogger("paraknow")
logger.setLevel(logging.INFO)  # a run's log in the UI takes its lines, whatever the root's level
ticks = logging.getLogger("paraknow.ticks")
"""Every tick, for a terminal that draws a bar; it attaches a handler, nobody else listens."""
ticks.setLevel(logging.INFO)
ticks.propagate = False

ARTIFACT_SECONDS = 10.0  # each is an event, and a line of `prefect deployment run --watch`
LINE_SECONDS = 15.0


class StepProgress:
    """Reports one step's progress, each channel no more often than it can bear."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._line_at = time.monotonic()
        self._artifact: UUID | None = None
        self._said = ""
        self._artifact_at = float("-inf")  # the first report makes it
        self._first: tuple[int, float] | None = None

    def __call__(self, done: int, total: int, message: str) -> None:
        """Report that ``done`` of ``total`` units are finished."""
        now = time.monotonic()
        self._said = message
        self._first = self._first or (done, now)
        ticks.info(message, extra={"label": self._label, "done": done, "total": total})
        if now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            left = self._left(done, total, now)
            text = f"{self._label}: {done} of {total}, {message}{left}"
            logger.info(text, extra={"is_progress": True})
        if now - self._artifact_at >= ARTIFACT_SECONDS:
            self._artifact_at = now
            self._update_artifact(100.0 * done / max(total, 1), message)

    def finish(self) -> None:
        """Leave the artifact, if one was made, at 100 % with what was said last, such as a loss."""
        if self._artifact is not None:
            self._update_artifact(100.0, f"finished: {self._said}")

    def _left(self, done: int, total: int, now: float) -> str:
        """Judge by this run's own units: a resumed one has not done the first."""
        first, began = self._first or (done, now)
        if done <= first:
            return ""
        return f", about {(now - began) / (done - first) * (total - done):.0f} s left"

    def _update_artifact(self, percent: float, message: str) -> None:
        """Show it in the UI; a server that is away costs the view, not the step."""
        try:
            self._put_artifact(percent, message)
        except Exception as error:  # noqa: BLE001 - whatever it is, the step goes on
            logger.debug("%s: its progress is not shown: %s", self._label, error)

    def _put_artifact(self, percent: float, message: str) -> None:
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        if not in_task_run():
            return
        if self._artifact is None:
            key = re.sub(r"[^a-z0-9]+", "-", self._label.lower()).strip("-") + "-progress"
            created = create_progress_artifact(percent, key=key, description=message)
            self._artifact = created if isinstance(created, UUID) else None
        else:
            update_progress_artifact(self._artifact, percent, description=message)


def in_task_run() -> bool:
    """Tell whether this is a task run of Prefect's, where artifacts have a place."""
    from prefect.context import TaskRunContext

    return TaskRunContext.get() is not None


def tell_wait(label: str) -> Callable[[float], None]:
    """Return what says now and then that another process is computing this very step."""
    told = [0.0]

    def tell(seconds: float) -> None:
        if seconds >= told[0]:
            told[0] = seconds + 15
            logger.info("%s: waiting for another run that computes it (%.0f s)", label, seconds)

    return tell
