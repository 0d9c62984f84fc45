"""Steps that several arms share are started once in a run, whoever asks for them first."""

from collections.abc import Mapping
from threading import Lock
from typing import Any

from flows.graph.runner import Handle, Runner
from tasks.checks.preflight import Check
from tasks.engine.step import C, Step


class Once:
    """A runner that gives the same handle for the same step, config and inputs.

    So an arm can name all the steps it needs, and those that an earlier arm needed as well are
    neither looked up nor shown a second time. The first label stays. Threads may ask side by side.
    """

    def __init__(self, do: Runner) -> None:
        """Wrap another runner."""
        self._do = do
        self._made: dict[Any, tuple[Handle, dict[str, Handle]]] = {}
        self._begun: dict[Any, Lock] = {}
        self._looking = Lock()

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Start a step that may run while others do, unless it was started already."""
        return self._once(self._do.start, step, config, label, inputs)

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Run a step to its end, if it was not."""
        return self._once(self._do, step, config, label, inputs)

    def _once(
        self, do: Any, step: Step[C], config: C, label: str, inputs: dict[str, Handle]
    ) -> Handle:
        """Start a step, or wait for whoever is starting it."""
        key = self._key(step, config, inputs)
        with self._looking:
            begun = self._begun.setdefault(key, Lock())
        with begun:
            if key not in self._made:
                # Inputs are kept, so that no other handle can come to have their identity.
                self._made[key] = do(step, config, label=label, **inputs), inputs
            return self._made[key][0]

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        """Check the folders of finished steps before anything expensive runs."""
        self._do.check(check, inputs, before=before)

    @staticmethod
    def _key(step: Step[C], config: C, inputs: dict[str, Handle]) -> Any:
        given = tuple(sorted((role, id(handle)) for role, handle in inputs.items()))
        return step.name, config.model_dump_json(), given
