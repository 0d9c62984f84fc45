"""Why planned steps would run: each compared with the nearest stored result of the same step."""

from collections.abc import Iterator
from dataclasses import dataclass

from artifacts.canonical import Json
from artifacts.keys import Absent
from artifacts.names import StepKey
from artifacts.queries.explain import Explanation, explain, nearest, planned_record
from artifacts.records import Record
from artifacts.store import Store
from flows.planning.planner import PlannedStep
from flows.planning.transfer import Plan
from flows.text import explanation_lines, name_of, text_of


@dataclass(frozen=True)
class Miss:
    """Why one step would run.

    Attributes:
        reason: in words.
        nearest: the stored result of the same step with the fewest differences, if there is one.
        differences: of the planned key and that result's.
    """

    reason: str
    nearest: Record | None = None
    differences: tuple[Explanation, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield what a person reads."""
        yield f"  {self.reason}"
        yield from explanation_lines(self.differences, ("planned", "stored"), "    ")

    def as_json(self) -> dict[str, Json]:
        """Return what a program reads."""
        return {
            "reason": self.reason,
            "nearest": self.nearest.key if self.nearest else None,
            "differences": [
                {
                    "field": found.difference.field,
                    "planned": _plain(found.difference.a),
                    "stored": _plain(found.difference.b),
                }
                for found in self.differences
            ],
        }


def why_missed(plan: Plan) -> dict[str, Miss]:
    """Return label → reason for every step of a plan that would run."""
    store = Store.open(plan.store)
    keyed = [step for step in plan.steps if step.payload is not None and step.status != "cached"]
    planned = {StepKey(step.key): _record(step) for step in keyed}
    return {
        step.label: _why(store, step, planned) for step in plan.steps if step.status != "cached"
    }


def _why(store: Store, step: PlannedStep, planned: dict[StepKey, Record]) -> Miss:
    if step.status == "rebuild" and step.drift is not None:
        return Miss(f"it is stored, but drifted: {step.drift.text()}")
    if step.payload is None:
        return Miss("its key is not known before the steps above have run")
    near = nearest(store, step.payload)
    if near is None:
        return Miss(f"the store has no result of the step {step.step}")
    found = explain(store, planned[StepKey(step.key)], near, planned=planned)
    said = f"the nearest stored result is {name_of(near)} of {text_of(near, 'finished')}"
    return Miss(f"{said}; it differs in", near, tuple(found))


def _record(step: PlannedStep) -> Record:
    if step.payload is None:
        raise ValueError(step.label)
    return planned_record(step.payload, step.made_of)


def _plain(value: Json | Absent) -> Json:
    return None if isinstance(value, Absent) else value
