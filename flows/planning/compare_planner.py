"""A planner of comparisons: steps counted once, and what each of them comes after."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from artifacts.names import StepKey
from flows.graph.runner import Handle
from flows.planning.planner import PlannedStep, Planner
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import C, Step

T = TypeVar("T")


class ComparePlanner(Planner):
    """A planner that counts a step once, however many methods and pairs ask for it."""

    plans = True

    def __init__(self, run: RunConfig, aside: Path) -> None:
        super().__init__(run, Stage.REPORT, aside)
        self._open = False
        self._asked: dict[str, PlannedStep] = {}
        self._keyed: dict[str, PlannedStep] = {}
        self._after: tuple[PlannedStep, ...] = ()

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Plan one step, which whatever the same thread plans later comes after."""
        planned = self.start(step, config, label=label, **inputs)
        if planned.status != "cached":
            before = {id(one) for one in planned.after}
            self._after = (*(one for one in self._after if id(one) not in before), planned)
        return planned

    def side_by_side(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Plan what runs at the same time; what is planned later comes after all of it."""
        begin, found = self._after, []
        ends: dict[int, PlannedStep] = {}
        for call in calls:
            self._after = begin
            found.append(call())
            ends |= {id(one): one for one in self._after}
        self._after = tuple(ends.values()) or begin
        return found

    def together(self, calls: Sequence[Callable[[], None]]) -> None:
        """Plan what runs at the same time, as a method's trials and seeds do."""
        self.side_by_side(calls)

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> PlannedStep:
        """Plan one step, or find it planned."""
        asked = {role: _read(step, role, given) for role, given in sorted(inputs.items())}
        question = json.dumps([step.name, config.model_dump_json(), asked, self._open and label])
        planned = self._asked.get(question)
        if planned is None:
            planned = self._asked[question] = self._plan(step, config, label, inputs)
        else:
            planned.uses += 1
        return planned

    def _plan(
        self, step: Step[C], config: C, label: str, inputs: Mapping[str, Handle]
    ) -> PlannedStep:
        before = len(self.steps)
        try:
            planned = super().start(step, config, label=label, **inputs)
        except BaseException:
            del self.steps[before:]  # a step that cannot run is listed as a failure
            raise
        known = {id(one) for one in planned.after}
        planned.after += tuple(one for one in self._after if id(one) not in known)
        if step.threaded or step.own_process:
            planned.slot = str(step.numerics(config, self.run).get("device", "cpu"))
        if self._open:
            planned.status, planned.key = "unknown", ""
            planned.known = planned.folder = None
        if not planned.key:
            return planned
        same = self._keyed.setdefault(planned.key, planned)
        if same is not planned:  # the same key by other settings that mean the same
            self.steps.pop()
            same.uses += 1
        return same

    def facts(self, handle: Handle) -> Mapping[str, Any]:
        """Return the facts of a step's stored output; empty if it has none."""
        if not isinstance(handle, PlannedStep) or handle.status != "cached":
            return {}
        key = StepKey(handle.key)
        record = self._store.lookup_here(key) or self._store.record_elsewhere(key)
        return dict(record.facts) if record else {}

    @contextmanager
    def undecided(self, undecided: bool) -> Iterator[None]:
        """Plan the steps inside as ones whose settings depend on results that are not there yet."""
        self._open = undecided
        try:
            yield
        finally:
            self._open = False


def _read(step: Step[Any], role: str, given: Handle) -> list[str]:
    """Return what of an input is in a step's key; an output that is not there yet stands for it.

    So two students of one shape share what reads their shape alone, before any of it has a key; and
    two uses of rows that are not here share what reads splits that are the same in both.
    """
    names = step.reads.get(role, ())
    if given.known is None:
        said = given.decided_by if isinstance(given, PlannedStep) else None
        return [said(name) for name in names] if said and names else [str(id(given))]
    return [given.known.files[name] for name in names] or [given.known.tree]
