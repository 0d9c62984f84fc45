"""How long steps took when they were computed before: what a plan's hours are made of."""

import statistics
from typing import Any

from artifacts.store import Store


class History:
    """Seconds of every stored result, by step and by what it was computed from."""

    def __init__(self, store: Store) -> None:
        self._seconds: dict[str, list[tuple[frozenset[str], float]]] = {}
        for record in store.records():
            inputs: Any = record.provenance.get("inputs", {})
            digests = frozenset(str(given["digest"]) for given in inputs.values())
            seconds = record.provenance.get("seconds")
            if isinstance(seconds, int | float):
                self._seconds.setdefault(record.step, []).append((digests, float(seconds)))

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
