"""What steps take here: measured by their own functions, kept, and used by plans."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.pair import pair_settings, write_pair
from typer.testing import CliRunner

from benchmarks.cost.points import read, write
from flows.calibration import calibrate as module
from flows.calibration.calibrate import SHAPES, calibrate, laws_of
from flows.calibration.measure import MEASURED, Sample, measure_steps
from flows.calibration.shapes import AXES, UNSEEN, Shape, all_shapes, along
from flows.calibration.stored import Where, calibrated, keep
from flows.cli.main import app
from flows.config.compare import CompareConfig
from flows.planning.compare import make_compare_plan
from flows.planning.rates import rates_here
from paraknow_core.errors import ConfigError
from paraknow_core.inspection.laws import Law, SlotRates
from paraknow_core.inspection.work import Work
from tasks.engine.run import RunConfig

HERE = Where("cpu", 1, "float32")
TINY = Shape(width=64, layers=2, tokens=16, samples=4, rank=4, vocabulary=128)
RATES = SlotRates(
    1e9, 1e9, 1e9, "", {"finetune": Law({"fixed": 100.0}, 1.25, {"fixed": (90, 110)})}
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("flows.calibration.stored.user_data_folder", lambda: tmp_path / "data")
    return tmp_path / "data"


def comparison(folder: Path) -> CompareConfig:
    one = pair_settings(write_pair(folder / "pair"), folder / "store")
    return CompareConfig.model_validate(
        {
            "name": "tiny",
            "pairs": [{"name": "small", "teacher": one["teacher"], "student": one["student"]}],
            "tasks": [{"name": "words", "data": one["data"]}],
            "methods": [{"name": "plain", "learning_rates": [1e-3]}],
            "settings": {name: one[name] for name in ("lora", "finetune", "evaluate")},
            "tuning": {"seeds": []},
            "seeds": [0, 1, 2, 3, 4],
            "run": one["run"],
        }
    )


def test_every_measured_step_is_computed_and_has_its_work() -> None:
    called = []

    def peak(call: object) -> int:
        called.append(call)
        assert callable(call)
        call()
        return 7

    run = RunConfig(device="cpu", threads=1)
    found = list(measure_steps([TINY], run, dtype="float32", repeats=1, peak=peak))
    assert [one.step for one in found] == list(MEASURED)
    for one in found:
        assert one.cpu > 0
        assert one.wall > 0
        assert (one.memory, one.shape) == (7, TINY)
        assert one.estimated > 0
        assert one.work.launches > 0
        assert one.work.flops + one.work.flops64 + one.work.moved > 0
    assert len(called) > len(MEASURED)  # acquiring and the start point are computed as well
    works = {one.step: one.work for one in found}
    assert works["sensitivity"].launches == 2 * TINY.samples * TINY.layers
    assert works["finetune"].launches == 2 * 1 * (TINY.layers // 2)  # 8 rows are one batch
    assert works["evaluate"].launches == 1 * (1 + 8) * (TINY.layers // 2)


def test_axes_vary_one_size_over_at_least_four_values() -> None:
    for axis, values in AXES.items():
        assert len(values) >= 4
        assert {replace(shape, **{axis: 0}) for shape in along(axis)} == {
            replace(Shape(), **{axis: 0})
        }
    assert not {*UNSEEN, *SHAPES} & {*all_shapes()}
    assert len(SHAPES) > 5  # more than a law has terms


def test_what_is_measured_is_fitted_kept_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(shapes: object, _run: object, **_how: object) -> list[Sample]:
        assert isinstance(shapes, list)
        return [
            Sample(shape, step, work, 2.0 * work.flops / 1e9, 9.0, 0, 0)
            for shape in shapes
            for step in MEASURED
            for work in [Work(1e6 * shape.width * shape.tokens, 0.0, 0.0, shape.layers)]
        ]

    monkeypatch.setattr(module, "measure_steps", measured)
    monkeypatch.setattr(module, "measured_rates", lambda *_: SlotRates(1e9, 2e9, 3e9, "", {}))
    rates, path = calibrate(RunConfig(device="cpu", threads=1), "float32")
    assert set(rates.laws) == set(MEASURED)
    assert rates.laws["extract"].seconds(Work(flops=5e9)) == pytest.approx(10.0, rel=0.02)
    assert path.is_file()
    kept = calibrated(HERE)
    assert kept is not None
    assert kept.laws == rates.laws
    assert (kept.flops, kept.flops64, kept.bandwidth) == (1e9, 2e9, 3e9)
    assert "cpu, 1 thread, float32" in kept.told
    assert calibrated(replace(HERE, threads=2)) is None
    assert calibrated(replace(HERE, dtype="bfloat16")) is None
    said = CliRunner().invoke(app, ["calibrate", "--threads", "1", "--device", "cpu", "--json"])
    assert set(json.loads(said.stdout)["laws"]) == set(MEASURED)
    shown = CliRunner().invoke(app, ["calibrate", "--threads", "1", "--device", "cpu"])
    assert "plans on this machine use it" in shown.stdout
    by_clock = laws_of(measured(list(SHAPES), None), by_clock=True)
    assert by_clock["extract"].seconds(Work(flops=5e9)) == pytest.approx(9.0, rel=0.02)


def test_a_plan_takes_the_calibration_of_its_threads(tmp_path: Path) -> None:
    config = comparison(tmp_path)
    assert "measured here" in rates_here(config).told
    keep(HERE, "2026-11-30", RATES)
    found = rates_here(config)
    assert "calibrated here on 2026-11-30" in found.told
    assert "a factor of 1.25" in found.worth
    plan = make_compare_plan(config, lambda: found)
    trained = [step for step in plan.steps if step.step == "finetune"]
    assert [step.seconds for step in trained] == [100.0] * 5
    given = config.model_copy(
        update={"budget": config.budget.model_copy(update={"flops": 1e12, "bandwidth": 1e12})}
    )
    assert "as given" in rates_here(given).told


def test_another_processor_or_a_damaged_file_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = keep(HERE, "2026-11-30", RATES)
    assert calibrated(HERE) is not None
    monkeypatch.setattr("flows.calibration.stored.processor", lambda _device: "another")
    assert calibrated(HERE) is None
    whole = path.read_text()
    for broken in (whole[:40], whole.replace('"fixed": 100.0', '"fixed": "long"'), "[]"):
        path.write_text(broken)
        with pytest.raises(ConfigError, match="run `paraknow calibrate` again"):
            calibrated(HERE)
    path.write_text(whole.replace('"fixed": 100.0', '"moon": 100.0'))
    with pytest.raises(ConfigError, match="terms that no law has"):
        calibrated(HERE)


def test_points_are_read_as_they_were_written(tmp_path: Path) -> None:
    work = Work(1.5e12, 0.0, 3e9, 64.0)
    points = [Sample(TINY, "extract", work, 0.125, 0.5, 10**8, 9 * 10**7)]
    write(points, tmp_path / "points.csv")
    assert read(tmp_path / "points.csv") == points
