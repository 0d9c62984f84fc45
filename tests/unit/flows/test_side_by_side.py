"""What runs side by side: never more than there are slots, and those busy to the end."""

import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from support.patience import wait_until

from flows.config.compare import ArmConfig
from flows.graph.arm import Arm, run_arm
from flows.graph.runner import Handle
from flows.graph.shared_steps import Once
from flows.graph.side_by_side import Turns, in_turn, side_by_side, turns
from paraknow_core.statistics.rate_search import RateSearch

SOON = 20.0
"""Seconds after which what waits for another thread gives up, so that a failure does not hang."""


def test_seeds_and_trials_of_one_method_share_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def tried(_arm: Any, _pair: Any, _do: Any, trial: Any) -> None:
        both.wait(SOON)
        trial.nll = trial.rate

    def run(_arm: Any, _pair: Any, _do: Any, seed: Any, rate: float) -> None:
        both.wait(SOON)
        seed.measured = Handle(f"{seed.seed} at {rate}")

    monkeypatch.setattr("flows.graph.arm._try", tried)
    monkeypatch.setattr("flows.graph.arm._run", run)
    monkeypatch.setattr("flows.graph.arm._look", lambda *_: None)
    search = RateSearch((0.1, 0.2, 0.3, 0.4), (1000,), extensions=0, refine=False)
    arm = Arm(ArmConfig(name="plain"), None, search, (0, 1, 2, 3))  # type: ignore[arg-type]
    do: Any = SimpleNamespace(plans=False)
    with turns(2):
        outcome = run_arm(arm, None, do, partial(in_turn, place=(0, 0)))  # type: ignore[arg-type]
    assert [trial.reason for trial in outcome.trials] == [""] * 4
    assert [run.measured and run.measured.label for run in outcome.runs] == [
        f"{seed} at 0.1" for seed in range(4)
    ]
    assert outcome.at_edge


def test_no_more_at_once_than_there_are_turns() -> None:
    now, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(3)

    def call() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        full.wait(SOON)
        with lock:
            now -= 1

    with turns(3):
        groups = [partial(in_turn, [call] * 6, place=(n,)) for n in range(3)]
        side_by_side(groups, at_once=3)
    assert (now, most) == (0, 3)


def test_whose_place_is_lowest_comes_first() -> None:
    shared, order = Turns(1), [0]

    def late(place: int) -> None:
        with shared.turn((place,)):
            order.append(place)

    threads = [threading.Thread(target=late, args=(place,)) for place in (2, 1)]
    with shared.turn((0,)):
        for thread in threads:
            thread.start()
        wait_until("two that wait", lambda: len(shared._waiting) == 2, every=0.01)
    for thread in threads:
        thread.join(SOON)
    assert order == [0, 1, 2]


def test_an_error_is_raised_and_the_turn_given_back() -> None:
    def fails() -> None:
        raise OSError("no")

    with turns(1):
        with pytest.raises(OSError, match="no"):
            in_turn([fails], place=(0,))
        done: list[int] = []
        in_turn([partial(done.append, 1)], place=(0,))
    assert done == [1]


def test_threads_that_ask_for_the_same_step_start_it_once() -> None:
    asked, together = [], threading.Barrier(2)

    class Runner:
        def __call__(self, step: Any, config: Any, *, label: str, **_: Handle) -> Handle:
            asked.append(label)
            return Handle(label)

    once = Once(Runner())  # type: ignore[arg-type]
    step: Any = SimpleNamespace(name="lora")
    config: Any = SimpleNamespace(model_dump_json=lambda: "{}")

    def ask(label: str) -> Handle:
        together.wait(SOON)
        return once(step, config, label=label)

    first, second = side_by_side([partial(ask, "a"), partial(ask, "b")], at_once=2)
    assert first is second
    assert len(asked) == 1
