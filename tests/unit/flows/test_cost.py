"""The page of costs is what its command prints from the committed points."""

from dataclasses import replace

import pytest

from benchmarks.cost.figure import IMAGE
from benchmarks.cost.page import fitted, foretold, growths, page, short
from benchmarks.cost.points import FOLDER, of_step, read
from flows.calibration.measure import MEASURED, Sample
from flows.calibration.shapes import AXES, UNSEEN, all_shapes, along


@pytest.fixture(scope="module")
def points() -> list[Sample]:
    return read()


def test_the_page_is_what_the_command_prints(points: list[Sample]) -> None:
    written = (FOLDER.parent / "cost.md").read_text(encoding="utf-8")
    assert page(points) == written, "run `python -m benchmarks.cost > docs/cost.md`"
    assert IMAGE.read_bytes().startswith(b"\x89PNG")


def test_every_step_was_measured_on_every_shape(points: list[Sample]) -> None:
    assert {(one.step, one.shape) for one in points} == {
        (step, shape) for step in MEASURED for shape in (*all_shapes(), *UNSEEN)
    }
    for axis in AXES:
        assert len(of_step(points, "finetune", along(axis))) >= 4


def test_laws_of_made_up_times_are_found_again(points: list[Sample]) -> None:
    """Times that follow a law: its growth is measured, and foretold where nothing was fitted."""
    made = [replace(one, cpu=0.5 + 2e-3 * one.work.launches) for one in points]
    laws = fitted(made)
    assert all(law.factor == pytest.approx(1.0, abs=1e-3) for law in laws.values())
    assert all(one.off == pytest.approx(1.0, abs=1e-2) for one in growths(made, laws))
    told = foretold(made, laws)
    assert len(told) == len(UNSEEN) * len(MEASURED)
    assert all(one.factor == pytest.approx(1.0, abs=1e-2) for one in told)


def test_a_number_has_two_digits_that_count() -> None:
    assert [short(n) for n in (0.0, 0.01234, 0.95, 1.26, 12.6, 123.4)] == [
        *("0", "0.012", "0.95", "1.3", "13", "123")
    ]
