"""When planned steps would run: in the order, the slots and after the steps that a run has."""

import heapq
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from flows.planning.durations import START_SECONDS, History
from flows.planning.planner import PlannedStep
from paraknow_core.inspection.laws import SlotRates


def makespan(
    steps: Sequence[PlannedStep], seconds: Mapping[int, float], slots: Mapping[str, int]
) -> float:
    """Simulate a run, and return how long it takes.

    A step begins when all that it comes after has ended and one of its slots is free (of a training
    on several GPUs: as many); of several that could begin, the first of the plan does. A step that
    takes no slot begins at once.

    Args:
        steps: that would run, in the order of the plan. Steps that they come after and that are
            none of these are there already.
        seconds: ``id`` of a step → how long it takes.
        slots: ``cpu`` and ``cuda`` → how many steps compute there at once. Without slots of its own
            kind, a step takes one for ``cpu``.

    Returns:
        Seconds from the first begin to the last end.
    """
    place = {id(step): number for number, step in enumerate(steps)}
    kinds = [step.slot if slots.get(step.slot) else step.slot and "cpu" for step in steps]
    earlier = [{place[id(one)] for one in step.after if id(one) in place} for step in steps]
    later: list[list[int]] = [[] for _ in steps]
    for number, before in enumerate(earlier):
        for one in before:
            later[one].append(number)
    # Of several GPUs, all that there are at most: more are refused before.
    takes = [
        min(step.devices, slots[kind]) if kind == "cuda" else 1
        for step, kind in zip(steps, kinds, strict=True)
    ]
    missing = [len(before) for before in earlier]
    free = Counter(slots)
    ready: dict[str, list[int]] = {kind: [] for kind in {*kinds, ""}}
    for number, kind in enumerate(kinds):
        if not missing[number]:
            heapq.heappush(ready[kind], number)
    running: list[tuple[float, int]] = []
    now = 0.0
    while running or any(ready.values()):
        for kind, waiting in ready.items():
            while waiting and (not kind or free[kind] >= takes[waiting[0]]):
                number = heapq.heappop(waiting)
                free[kind] -= takes[number] if kind else 0
                heapq.heappush(running, (now + seconds[id(steps[number])], number))
        now = running[0][0]
        while running and running[0][0] == now:
            _, ended = heapq.heappop(running)
            free[kinds[ended]] += takes[ended] if kinds[ended] else 0
            for number in later[ended]:
                missing[number] -= 1
                if not missing[number]:
                    heapq.heappush(ready[kinds[number]], number)
    return now


def scheduled_hours(
    steps: Sequence[PlannedStep],
    history: History,
    places: Mapping[str, int],
    rates: Callable[[], SlotRates | None],
) -> tuple[float, SlotRates | None]:
    """Put to each step to run its seconds, as far as they are known, and schedule them.

    What a step like it took here is known best; then its work at the rates, which are asked for
    only where a step needs them.
    """
    to_run = [step for step in steps if step.status != "cached"]
    for step in to_run:
        step.seconds = history.seconds(step.step, step.inputs)
    new = [(s, s.estimate.work) for s in to_run if s.seconds is None and s.estimate.work]
    found = rates() if new else None
    if found is not None:
        for step, work in new:
            alone = found.seconds(step.step, work)
            step.seconds, step.by_rates = alone / step.devices, True
    if all(step.seconds is None for step in to_run):
        return 0.0, found
    each = {id(step): (step.seconds or 0.0) + history.overhead(step.step) for step in to_run}
    return (START_SECONDS + makespan(to_run, each, places)) / 3600, found
