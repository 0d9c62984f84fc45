"""Verdicts that say something else than those of the run before: an event on Prefect's server.

An automation of ``paraknow init-server`` waits for it; others may.
"""

from typing import Final

from flows.results.conclude import CompareResult
from tasks.engine.progress import logger

VERDICT_CHANGED: Final = "paraknow.verdict.changed"
"""The event's name. Its payload: comparison, run, cell, now, before."""


def tell_changed_verdicts(result: CompareResult) -> None:
    """Emit an event for each verdict of another kind than before; to be called in a flow run."""
    from prefect.events import emit_event

    for cell, before in result.before.items():
        logger.warning("the verdict on %s changed; before: %s", cell, before)
        emit_event(
            VERDICT_CHANGED,
            resource={
                "prefect.resource.id": f"paraknow.comparison.{result.name}",
                "prefect.resource.name": result.name,
            },
            payload={
                "comparison": result.name,
                "run": result.run,
                "cell": cell,
                "now": result.verdicts[cell],
                "before": before,
            },
        )
