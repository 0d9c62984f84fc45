"""The stage of each step: what ``--until`` means."""

import pytest

from tasks.engine.stage import Stage
from tasks.steps import STEPS


@pytest.mark.parametrize("name", STEPS)
def test_every_step_belongs_to_a_stage(name: str) -> None:
    stage = STEPS[name].stage
    assert isinstance(stage, Stage)
    assert name not in list(Stage) or stage == Stage(name)


def test_every_stage_has_a_step() -> None:
    assert {step.stage for step in STEPS.values()} == set(Stage)


def test_a_stage_is_within_itself_and_the_later_ones() -> None:
    order = list(Stage)
    for place, stage in enumerate(order):
        assert [until for until in order if stage.is_within(until)] == order[place:]
