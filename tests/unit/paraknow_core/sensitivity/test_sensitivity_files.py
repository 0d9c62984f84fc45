"""Runs that stop and go on, and the files and table that a run ends in."""

import json

import pytest
import torch
from safetensors.torch import load_file
from support.tiny import tiny_model
from support.tiny import tiny_samples as samples

from paraknow_core.errors import ShapeError
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults
from paraknow_core.seals import MANIFEST
from paraknow_core.sensitivity.accumulate import (
    SensitivityCheckpoint,
    accumulate,
    score_table,
    write_maps,
    write_score_table,
)


class Stop(Exception):
    pass


def stop_after(count):
    def progress(done, total, message):
        if done == count:
            raise Stop

    return progress


@pytest.mark.parametrize(("together", "steps"), [(0, [3, 4, 5]), (16, [2, 3, 4, 5])])
@pytest.mark.parametrize("tied", [False, True])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, tied, together, steps):
    folder = tiny_model(tmp_path / "model", tied=tied)
    expected = accumulate(load_model(folder), samples(), batch_tokens=together)
    checkpoint = SensitivityCheckpoint(PartialResults(tmp_path / "run"), every_seconds=0)
    with pytest.raises(Stop):
        accumulate(
            load_model(folder),
            samples(),
            batch_tokens=together,
            progress=stop_after(steps[0]),
            checkpoint=checkpoint,
        )
    seen = []
    again = SensitivityCheckpoint(PartialResults(tmp_path / "run"), every_seconds=0)
    maps = accumulate(
        load_model(folder),
        samples(),
        batch_tokens=together,
        progress=lambda *a: seen.append(a[0]),
        checkpoint=again,
    )
    assert seen == steps
    assert all(torch.equal(maps[n], expected[n]) for n in expected)


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_not_used(tmp_path):
    folder = tiny_model(tmp_path / "model")
    expected = accumulate(load_model(folder), samples())

    def run(model, examples, where):
        seen = []
        maps = accumulate(
            model,
            examples,
            progress=lambda *a: seen.append(a[0]),
            checkpoint=SensitivityCheckpoint(PartialResults(where), every_seconds=0),
        )
        return maps, seen[0]

    where = tmp_path / "run"
    assert run(load_model(folder), samples(), where)[1] == 0
    assert run(load_model(folder), samples(), where)[1] == 5
    assert run(load_model(folder), samples(seed=1), where)[1] == 0
    assert run(load_model(tiny_model(tmp_path / "other", seed=1)), samples(), where)[1] == 0
    run(load_model(folder), samples(), where)
    for damage in ("truncate", "remove", "garble"):
        (path,) = where.glob("saved/*/sums.safetensors")
        if damage == "truncate":
            path.write_bytes(path.read_bytes()[:-8])
        elif damage == "remove":
            path.unlink()
        else:
            path.with_name(MANIFEST).write_text('{"body": {"format": 1')
        maps, start = run(load_model(folder), samples(), where)
        assert start == 0
        assert all(torch.equal(maps[n], expected[n]) for n in expected)


def test_saving_waits_for_its_time_and_for_twenty_times_its_own_cost(tmp_path, monkeypatch):
    now = [0.0]
    cost = 3.0

    def clock():
        return now[0]

    monkeypatch.setattr("paraknow_core.sensitivity.resume.time.monotonic", clock)
    checkpoint = SensitivityCheckpoint(PartialResults(tmp_path / "run"), every_seconds=10.0)
    save = checkpoint._save

    def slow_save(*arguments):
        save(*arguments)
        now[0] += cost

    monkeypatch.setattr(checkpoint, "_save", slow_save)
    saved = []
    for second in range(150):
        now[0] = max(now[0], float(second))
        if checkpoint.save_if_due({"a": torch.ones(2)}, second, "f"):
            saved.append(second)
    assert saved == [10, 73, 136]  # 10 s, then 13 + 20 × 3 s, then 76 + 20 × 3 s


def test_maps_are_written_per_layer_with_the_same_bytes_each_time(tmp_path):
    folder = tiny_model(tmp_path / "model", "qwen2")
    maps = accumulate(load_model(folder), samples(2))
    architecture = describe(folder)
    first = write_maps(maps, tmp_path / "a", architecture)
    second = write_maps(dict(reversed(maps.items())), tmp_path / "b", architecture)
    layers = [f"layer-{i:04d}.safetensors" for i in range(3)]
    assert sorted(p.name for p in first) == [
        "embed.safetensors",
        "head.safetensors",
        *layers,
        "norm.safetensors",
    ]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    read = {n: t for p in first for n, t in load_file(p).items()}
    assert read.keys() == maps.keys()
    assert all(torch.equal(read[n], maps[n]) for n in maps)
    assert all("layers.1." in n for n in load_file(tmp_path / "a" / layers[1]))


def test_the_table_sums_every_parameter_of_a_layer(tmp_path):
    folder = tiny_model(tmp_path / "model", "qwen2", tied=True)
    maps = accumulate(load_model(folder), samples(2))
    table = score_table(maps, describe(folder))
    for layer, score in enumerate(table["layers"]):
        mine = [m.double().sum().item() for n, m in maps.items() if f"layers.{layer}." in n]
        assert score == pytest.approx(sum(mine), rel=1e-12)
    assert list(table["roles"]) == ["q", "k", "v", "o", "gate", "up", "down", "norm", "bias"]
    assert list(table["outside"]) == ["embed", "norm"]
    up = maps["model.layers.2.mlp.up_proj.weight"].double().sum().item()
    assert table["roles"]["up"][2] == pytest.approx(up, rel=1e-12)
    path = write_score_table(table, tmp_path)
    assert path.name == "layer_sums.json"
    assert json.loads(path.read_text()) == table


def test_the_table_is_summed_in_float64():
    from paraknow_core.sensitivity.maps import _sum

    flat = torch.full((3 * 2**20 + 5,), 0.1)
    flat[0] = 1e8
    assert _sum(flat) == pytest.approx(1e8 + (flat.numel() - 1) * float(flat[1]), rel=1e-12)


def test_maps_of_another_model_are_refused(tmp_path):
    folder = tiny_model(tmp_path / "model")
    maps = accumulate(load_model(folder), samples(1))
    other = describe(tiny_model(tmp_path / "other", ffn=48))
    for function in (lambda: score_table(maps, other), lambda: write_maps(maps, tmp_path, other)):
        with pytest.raises(ShapeError, match=r"mlp.*\(.*64.*\(.*48"):
            function()
