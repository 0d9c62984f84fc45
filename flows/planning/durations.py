"""How long steps took when they were computed before: what a plan's hours are made of."""

import statistics
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from artifacts.store import Store

TASK_SECONDS: Final = 0.4
"""What a task costs besides its step: Prefect's states, key, lookup, publishing. An
estimate; docs/operations.md says how right plans were."""
START_SECONDS: Final = 12.0
"""What a run costs before its first step computes: server, plan, the worker's imports."""
_WAITED: Final = 2.0
"""Seconds beyond the median around a computation that are taken for waiting, and left out."""


class History:
    """Seconds of every stored result, by step and by what it was computed from."""

    def __init__(self, store: Store) -> None:
        self._seconds: dict[str, list[tuple[frozenset[str], float]]] = {}
        around: dict[str, list[float]] = {}
        for record in store.records():
            inputs: Any = record.provenance.get("inputs", {})
            digests = frozenset(str(given["digest"]) for given in inputs.values())
            seconds = record.provenance.get("seconds")
            if isinstance(seconds, int | float):
                self._seconds.setdefault(record.step, []).append((digests, float(seconds)))
                around.setdefault(record.step, []).append(_around(record.provenance, seconds))
        self._around = {step: _mean_without_waits(found) for step, found in around.items()}

    def seconds(self, step: str, inputs: frozenset[str]) -> float | None:
        """Return the median seconds of a step's results that are most like one to be computed.

        Args:
            step: its name.
            inputs: digests of what it is computed from, as far as they are known; most like are the
                results that share the most of them.

        Returns:
            None if nothing of that step was ever computed here.
        """
        past = self._seconds.get(step)
        if not past:
            return None
        best = max(len(digests & inputs) for digests, _ in past)
        return statistics.median(s for digests, s in past if len(digests & inputs) == best)

    def overhead(self, step: str) -> float:
        """Return the seconds that a step takes in a run besides its computing.

        A process's start, sending the work there, watching the source files: as its earlier results
        tell. Prefect's states, lookup and publishing: `TASK_SECONDS`.
        """
        return self._around.get(step, 0.0) + TASK_SECONDS


def _around(provenance: Mapping[str, Any], seconds: float) -> float:
    """Seconds between a computation's begin and end in which nothing was computed.

    Begin and end are cut to whole seconds, so that only the mean of many tells.
    """
    try:
        begun, ended = (datetime.fromisoformat(provenance[at]) for at in ("started", "finished"))
    except (KeyError, TypeError, ValueError):
        return 0.0
    return (ended - begun).total_seconds() - seconds


def _mean_without_waits(found: list[float]) -> float:
    """A step may have waited for a worker or a device for hours: that is none of its own time."""
    most = statistics.median(found) + _WAITED
    return max(0.0, statistics.fmean(min(one, most) for one in found))
