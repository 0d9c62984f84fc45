"""A plan's hours: its steps in their order, on the slots, with what a step costs besides."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support.pair import pair_settings, write_pair

from flows.config.compare import CompareConfig
from flows.planning.compare import make_compare_plan
from flows.planning.durations import TASK_SECONDS, History
from flows.planning.planner import PlannedStep
from flows.planning.schedule import makespan
from tasks.engine.run import RunConfig


def step(slot: str = "cpu", after: Sequence[PlannedStep] = ()) -> PlannedStep:
    return PlannedStep("", slot=slot, after=tuple(after))


def spent(steps: Sequence[PlannedStep], seconds: Sequence[float], **slots: int) -> float:
    times = {id(one): each for one, each in zip(steps, seconds, strict=True)}
    return makespan(steps, times, {"cpu": 1, "cuda": 0} | slots)


def by_ticks(steps: Sequence[PlannedStep], seconds: Sequence[int], slots: dict[str, int]) -> int:
    """The same, tick by tick."""
    left, begun, now = list(seconds), [False] * len(steps), 0
    place = {id(one): n for n, one in enumerate(steps)}
    ended = [False] * len(steps)
    while not all(ended):
        for n, one in enumerate(steps):
            kind = one.slot if slots.get(one.slot) else one.slot and "cpu"
            busy = sum(
                begun[m] and not ended[m]
                for m, other in enumerate(steps)
                if (other.slot if slots.get(other.slot) else other.slot and "cpu") == kind
            )
            ready = all(ended[place[id(b)]] for b in one.after)
            if not begun[n] and ready and (not kind or busy < slots[kind]):
                begun[n] = True
        now += 1
        for n in range(len(steps)):
            if begun[n] and not ended[n]:
                left[n] -= 1
                ended[n] = left[n] == 0
    return now


def test_it_is_what_a_clock_says_that_ticks() -> None:
    draw = random.Random(3)
    for _ in range(200):
        steps: list[PlannedStep] = []
        for _ in range(draw.randint(1, 14)):
            after = draw.sample(steps, draw.randint(0, min(3, len(steps))))
            steps.append(step(draw.choice(["cpu", "cuda", ""]), after))
        seconds = [draw.randint(1, 5) for _ in steps]
        slots = {"cpu": draw.randint(1, 3), "cuda": draw.randint(0, 2)}
        assert spent(steps, seconds, **slots) == by_ticks(steps, seconds, slots)


def test_a_chain_is_no_faster_in_many_slots_and_what_is_there_is_not_waited_for() -> None:
    stored = step()
    first = step(after=[stored])
    second = step(after=[first])
    assert spent([first, second], [2, 3], cpu=8) == 5
    assert spent([], []) == 0
    assert spent([step(), step()], [2, 3]) == 5
    assert spent([step(), step()], [2, 3], cpu=2) == 3
    assert spent([step(""), step("")], [2, 3]) == 3
    assert spent([step("cuda"), step("cuda"), step()], [2, 3, 4], cuda=1) == 5
    assert spent([step("cuda"), step("cuda"), step()], [2, 3, 4]) == 9


def test_a_training_on_several_gpus_waits_for_all_of_them() -> None:
    wide = PlannedStep("", slot="cuda", devices=2)
    assert spent([step("cuda"), wide, step("cuda")], [2, 3, 2], cuda=2) == 7
    assert spent([wide, step("cuda")], [3, 2], cuda=2) == 5
    assert spent([wide, step("cuda")], [3, 2], cuda=3) == 3
    assert spent([wide], [3], cuda=1) == 3


def record(seconds: float, around: float, at: float = 0.0) -> Any:
    begun = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    ended = begun + timedelta(seconds=seconds + around)
    told = {
        "started": begun.isoformat(timespec="seconds"),
        "finished": ended.isoformat(timespec="seconds"),
        "seconds": seconds,
    }
    return SimpleNamespace(step="finetune", provenance=told)


def history(records: list[Any]) -> History:
    store: Any = SimpleNamespace(records=lambda: iter(records))
    return History(store)


def test_what_a_step_costs_besides_is_learnt_from_times_in_whole_seconds() -> None:
    many = [record(3.0 + n % 7 / 7, 0.4, at=n * 0.137) for n in range(400)]
    assert history(many).overhead("finetune") == pytest.approx(0.4 + TASK_SECONDS, abs=0.15)
    waited = [record(3.0, 7200.0 if n % 20 == 0 else 0.4, at=n * 0.137) for n in range(400)]
    assert history(waited).overhead("finetune") < 1.5 + TASK_SECONDS
    assert history([]).overhead("finetune") == TASK_SECONDS
    broken = SimpleNamespace(step="finetune", provenance={"seconds": 2.0, "started": "long ago"})
    assert history([broken]).overhead("finetune") == TASK_SECONDS


@pytest.fixture
def compared(tmp_path: Path) -> dict[str, Any]:
    one = pair_settings(write_pair(tmp_path / "pair"), tmp_path / "store")
    shared = ("lora", "decompose", "finetune", "evaluate")
    return {
        "name": "tiny",
        "pairs": [{"name": "small", "teacher": one["teacher"], "student": one["student"]}],
        "tasks": [{"name": "words", "data": one["data"]}],
        "methods": [{"name": "plain"}, {"name": "transfer"}],
        "settings": {name: one[name] for name in shared},
        "tuning": {"learning_rates": [1e-3, 1e-2], "seeds": [1000]},
        "seeds": [0, 1, 2, 3, 4],
        "run": one["run"],
    }


def test_steps_come_after_what_they_wait_for_in_a_run(compared: dict[str, Any]) -> None:
    plan = make_compare_plan(CompareConfig.model_validate(compared))
    named = {one.label: one for one in plan.steps}

    def before(label: str) -> set[str]:
        """Everything that ends before a step begins."""
        found: set[str] = set()
        open_ = [named[label]]
        while open_:
            for other in open_.pop().after:
                if other.label not in found:
                    found.add(other.label)
                    open_.append(other)
        return found

    trial, seed = "finetune plain lr 0.001 seed 1000", "finetune plain seed 0"
    assert "finetune plain lr 0.01 seed 1000" not in before(trial)
    assert {trial, "finetune plain lr 0.01 seed 1000"} < before(seed)
    assert not any("transfer" in label for label in before(seed))
    assert "finetune plain seed 1" not in before(seed)
    assert {"likeness", "evaluate vanilla"} <= before(trial)
    assert before("report") >= {label for label in named if label.startswith("evaluate")}
    assert named[trial].slot == "cpu"
    assert named["align"].slot == ""
    assert plan.hours == 0.0  # nothing like it ever ran in this store


def test_several_processes_need_the_memory_of_each_and_gpus_for_all(
    compared: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trial(device: str, **changes: Any) -> PlannedStep:
        monkeypatch.setattr(RunConfig, "device_type", lambda _run: device)
        settings = compared["settings"]
        settings = settings | {"finetune": settings["finetune"] | changes}
        plan = make_compare_plan(CompareConfig.model_validate(compared | {"settings": settings}))
        return next(one for one in plan.steps if one.label.startswith("finetune plain lr"))

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda _name: True)
    alone, shared = trial("cpu", micro_batch_size=4), trial("cpu", processes=2)
    assert alone.estimate.memory_bytes
    assert shared.estimate.memory_bytes == 2 * alone.estimate.memory_bytes
    assert (shared.key, shared.devices) == (alone.key, 1)
    spread = trial("cuda", processes=2)
    assert (spread.estimate.memory_bytes, spread.devices) == (alone.estimate.memory_bytes, 2)
    compared["slots"] = {"gpus": ["1", "1"]}
    with pytest.raises(ValidationError, match=r"processes is 2, .* but slots\.gpus has 1; add"):
        trial("cuda", processes=2)
