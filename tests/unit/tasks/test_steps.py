"""The registry of steps."""

import importlib
import pkgutil

import pytest

import tasks
from paraknow_core.settings import Settings
from tasks.engine.code.revisions import FILE, revisions, write
from tasks.engine.step import Step
from tasks.reproduce import OWN_PLACES, config_type
from tasks.revise import changes
from tasks.steps import STEPS


def test_every_step_of_the_package_is_registered() -> None:
    found = {}
    for info in pkgutil.iter_modules(tasks.__path__):
        module = importlib.import_module(f"tasks.{info.name}")
        found |= {s.name: s for s in vars(module).values() if isinstance(s, Step)}
    assert dict(STEPS) == found


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_step_tells_the_type_of_its_settings(name: str) -> None:
    assert issubclass(config_type(STEPS[name]), Settings)


def test_places_of_inputs_name_settings_that_exist() -> None:
    for name, places in OWN_PLACES.items():
        for path in places.values():
            fields = config_type(STEPS[name]).model_fields
            for part in path.split("."):
                assert part in fields
                below = fields[part].annotation
                fields = getattr(below, "model_fields", {})


def test_whether_code_still_computes_the_same_numbers_is_written_down() -> None:
    """After a change: ``python -m tasks.revise`` names the steps, and says what to do."""
    assert changes(revisions()) == []
    assert write(revisions()) == FILE.read_text()
