"""The sensitivity computed layer by layer is that of the whole model in memory."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from support.patience import PATIENCE
from support.tiny import FAMILIES, tiny_model
from support.tiny import tiny_samples as samples

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import DataError, NumericsError
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model
from paraknow_core.models.unloaded import unloaded_model
from paraknow_core.partial_results import PartialResults
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.sensitivity.maps import (
    score_table,
    score_table_of,
    write_maps,
    write_some_maps,
)
from paraknow_core.sensitivity.streamed.boundaries import Boundary, Budget
from paraknow_core.sensitivity.streamed.choice import boundary_room, streams
from paraknow_core.sensitivity.streamed.saves import StreamedCheckpoint
from paraknow_core.sensitivity.streamed.stream import stream


class Stop(Exception):
    pass


def streamed(folder, place, examples=None, **options):
    """Run into ``place/out``; returns the sums of the maps."""
    out, scratch = place / "out", place / "scratch"
    for each in (out, scratch):
        each.mkdir(parents=True, exist_ok=True)
    return stream(
        folder,
        samples() if examples is None else examples,
        take=lambda maps, tensors: write_some_maps(maps, out, tensors),
        out=out,
        scratch=scratch,
        **options,
    )


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_is_that_of_the_whole_model(tmp_path, family, tied):
    """In two dtypes on disk and in memory, from shards, with windows shorter than the samples."""
    slides = {} if family in ("gpt2", "gpt_neox", "llama", "olmo2") else {"sliding_window": 4}
    stored = torch.bfloat16 if tied else torch.float32
    folder = tiny_model(
        tmp_path / "model",
        family,
        tied=tied,
        dtype=stored,
        max_shard_size="20KB",
        attention_bias=True,
        **slides,
    )
    assert len(list(folder.glob("*.safetensors"))) > 1
    architecture = describe(folder)
    maps = accumulate(load_model(folder), samples(), batch_tokens=0)
    sums = streamed(folder, tmp_path, boundary_bytes=0 if tied else 2**14)
    write_maps(maps, tmp_path / "expected", architecture)
    found, expected = (tmp_path / name for name in ("out", "expected"))
    assert sorted(files_of(found)) == sorted(files_of(expected))
    for path in expected.iterdir():
        there = load_file(found / path.name)
        for name, scores in load_file(path).items():
            error = (there[name].double() - scores).norm() / scores.double().norm()
            assert error < 1e-6, (name, float(error))
    table, whole = score_table_of(sums, architecture), score_table(maps, architecture)
    assert table["layers"] == pytest.approx(whole["layers"], rel=1e-6)
    assert table["outside"] == pytest.approx(whole["outside"], rel=1e-6)
    assert table["roles"].keys() == whole["roles"].keys()
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("family", ["gemma3_text", "gpt2"])
def test_in_bfloat16_too(tmp_path, family):
    folder = tiny_model(tmp_path / "model", family, tied=True)
    maps = accumulate(load_model(folder, dtype=torch.bfloat16), samples(), batch_tokens=0)
    streamed(folder, tmp_path, dtype=torch.bfloat16)
    for path in (tmp_path / "out").iterdir():
        for name, scores in load_file(path).items():
            assert torch.allclose(scores, maps[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_unloaded_model_is_the_loaded_one_without_its_weights(tmp_path, family, dtype):
    folder = tiny_model(tmp_path, family, layers=1, tied=family != "llama")
    blank, real = unloaded_model(folder, dtype=dtype), load_model(folder, dtype=dtype)
    assert all(parameter.is_meta for parameter in blank.parameters())
    shapes = [{n: (p.shape, p.dtype) for n, p in m.named_parameters()} for m in (blank, real)]
    assert shapes[0] == shapes[1]
    buffers = dict(blank.named_buffers())
    assert buffers.keys() == dict(real.named_buffers()).keys()
    for name, values in real.named_buffers():
        assert torch.equal(buffers[name], values)
        assert buffers[name].dtype == values.dtype
    assert blank.config._attn_implementation == real.config._attn_implementation
    assert not blank.training


@pytest.mark.parametrize("tied", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit_after_any_unit(tmp_path, tied):
    folder, size = tiny_model(tmp_path / "model", "qwen3", tied=tied, layers=2), len(samples())
    sums = streamed(folder, tmp_path / "whole")
    units = 2 * 2 + 3

    for unit in range(1, units):
        place = tmp_path / f"run-{unit}"

        def progress(done, _total, _message, unit=unit):
            if done == unit * size + 1:
                raise Stop

        def checkpoint(place=place):
            return StreamedCheckpoint(PartialResults(place / "partial"), every_seconds=0)

        with pytest.raises(Stop):
            streamed(folder, place, progress=progress, checkpoint=checkpoint())
        seen, again = [], place / "again"
        found = streamed(
            folder, again, progress=lambda *a, s=seen: s.append(a[0]), checkpoint=checkpoint()
        )
        assert seen[0] == unit * size
        assert seen[-1] == units * size
        assert found == sums
        assert files_of(again / "out") == files_of(tmp_path / "whole" / "out")


def test_a_run_of_other_samples_or_another_model_begins_anew(tmp_path):
    folder = tiny_model(tmp_path / "model", layers=1)
    other = tiny_model(tmp_path / "other", layers=1, seed=1)

    def run(folder, examples, dtype=torch.float32):
        seen = []
        streamed(
            folder,
            tmp_path / "run",
            examples,
            dtype=dtype,
            progress=lambda *a: seen.append(a[0]),
            checkpoint=StreamedCheckpoint(PartialResults(tmp_path / "partial"), every_seconds=0),
        )
        return seen[0]

    assert run(folder, samples()) == 0
    assert run(folder, samples()) == 4 * len(samples())  # of five units the last is not saved
    assert run(folder, samples(seed=1)) == 0
    assert run(other, samples(seed=1)) == 0
    assert run(other, samples(seed=1), torch.bfloat16) == 0


def test_bad_samples_and_weights_are_told(tmp_path):
    folder = tiny_model(tmp_path / "model")
    seen = []
    bad = [TokenisedExample((1, 2, 64), (-100, 2, 3))]
    with pytest.raises(DataError, match="Sample 0 has tokens"):
        streamed(folder, tmp_path, bad, progress=lambda *a: seen.append(a))
    assert not seen
    with pytest.raises(DataError, match="at least one sample"):
        streamed(folder, tmp_path, [])
    with pytest.raises(NumericsError, match="float16"):
        streamed(folder, tmp_path, dtype=torch.float16)
    model = load_model(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = float("nan")
    model.save_pretrained(folder)
    with pytest.raises(NumericsError, match=r"Sample 0.*loss"):
        streamed(folder, tmp_path)


@pytest.mark.parametrize("room", [0, 10**6])
def test_a_boundary_keeps_each_samples_rows(tmp_path, room):
    rows = [torch.randn(size, 3).bfloat16() for size in (4, 1, 2)]
    budget = Budget(room)
    kept = Boundary(tmp_path / "kept", [4, 1, 2], 3, torch.bfloat16, budget)
    for sample in (2, 0, 1):
        kept.put(sample, rows[sample])
    assert (tmp_path / "kept").exists() == (room == 0)
    copied = Boundary(tmp_path / "copied", [4, 1, 2], 3, torch.bfloat16, Budget(0))
    kept.write(tmp_path / "written")
    copied.read(tmp_path / "written")
    for each in (kept, copied):
        assert all(torch.equal(each.get(sample), rows[sample]) for sample in range(3))
        assert torch.equal(each.get(0, 2), rows[0][:2])
        each.drop()
    assert budget.free == room
    assert not (tmp_path / "kept").exists()


def test_streaming_is_chosen_when_the_model_does_not_fit():
    assert streams("auto", need=100, available=110)
    assert not streams("auto", need=100, available=120)
    assert streams("always", need=1, available=100)
    assert not streams("never", need=100, available=1)
    assert boundary_room(need=60, available=100) == 20
    assert boundary_room(need=120, available=100) == 0


# Runs a teacher in a process whose memory is limited to a quarter of the teacher's weights, beyond
# what the interpreter and its libraries have taken before: first by layers, then as a whole.
LIMITED = """
import resource, sys
from pathlib import Path
import torch
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.sensitivity.streamed.stream import stream

torch.set_num_threads(1)
small, big, place, budget = *map(Path, sys.argv[1:4]), int(sys.argv[4])
ids = (1, *((3 * i) % 60 for i in range(31)))
samples = [TokenisedExample(ids, (-100,) * 16 + ids[16:])] * 2

def by_layer(folder):
    sums = stream(folder, samples, take=lambda *_: [], out=place, scratch=place)
    return {name: sum(total for _, total in found) for name, found in sums.items()}

def whole(folder):
    return {n: float(m.double().sum()) for n, m in accumulate(load_model(folder), samples).items()}

by_layer(small), whole(small)  # imports what is imported late
taken = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if "VmData" in line)
hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (taken + budget, hard))
found = by_layer(big)
try:
    whole(big)
except Exception as error:
    assert "memory" in str(error).lower(), error
else:
    raise AssertionError("the limit does not hold")
resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
for name, total in whole(big).items():
    assert abs(found[name] - total) <= 1e-5 * total, (name, found[name], total)
"""


def test_a_teacher_four_times_larger_than_the_memory_that_there_is(tmp_path):
    small = tiny_model(tmp_path / "small")
    big = tiny_model(tmp_path / "big", hidden=320, ffn=896, layers=36, heads=5, kv_heads=5)
    size = describe(big).weight_bytes
    # Blocks of this size are what the C library keeps for later; those of a real layer it does not.
    returned = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, small, big, tmp_path, str(size // 4)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **returned},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr[-2000:]
