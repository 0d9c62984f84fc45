"""A sensitivity run killed anywhere goes on from its last whole sample, bit for bit."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from support.patience import PATIENCE
from support.tiny import tiny_model

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate

pytestmark = [pytest.mark.faults, pytest.mark.figures(kills=1)]

# Where a process kills itself, at which call of it, and how many samples are then safe.
DEATHS = [
    ("sample", 3, 3),
    ("sync", 9, 2),  # four a save: the third save dies before its sums are durable
    ("sync", 11, 2),  # … before its progress is durable
    ("sync", 12, 3),  # … after its progress was renamed
    ("rename", 5, 2),
    ("rename", 6, 2),
    ("renamed", 5, 2),  # new sums beside progress that names the old ones
    ("renamed", 6, 3),
    ("unlink", 1, 2),
]

# Imports everything once and forks a process for each run: nine deaths cost one start of Python.
SCRIPT = """
import json, os, signal, sys
from pathlib import Path
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import SensitivityCheckpoint, accumulate
import safetensors.torch, torch

torch.set_num_threads(1)
model, place, pairs, deaths = sys.argv[1], Path(sys.argv[2]), *map(json.loads, sys.argv[3:5])
samples = [TokenisedExample(*map(tuple, pair)) for pair in pairs]

def run(name, where, left):
    def die():
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(function, after):
        def call(*arguments, **named):
            if not after:
                die()
            result = function(*arguments, **named)
            if after:
                die()
            return result
        return call

    started = []
    def progress(done, total, message):
        started.append(done)
        if where == "sample" and done:
            die()

    if where == "sync":
        os.fsync = dying(os.fsync, after=False)
    if where == "rename":
        Path.replace = dying(Path.replace, after=False)
    if where == "renamed":
        Path.replace = dying(Path.replace, after=True)
    if where == "unlink":
        Path.unlink = dying(Path.unlink, after=True)
    checkpoint = SensitivityCheckpoint(place / name, every_seconds=0)
    maps = accumulate(load_model(Path(model)), samples, progress=progress, checkpoint=checkpoint)
    safetensors.torch.save_file(maps, place / f"{name}.safetensors")
    return started[0]

def in_a_fork(*arguments):
    child = os.fork()
    if not child:
        code = 99
        try:
            code = run(*arguments)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

load_model(Path(model))  # so that no fork has Transformers still to import
codes = {}
for where, count in deaths:
    name = f"{where}-{count}"
    killed = in_a_fork(name, where, count)
    finished = (place / f"{name}.safetensors").exists()
    codes[name] = [killed, finished, in_a_fork(name, "nowhere", 0)]
print(json.dumps(codes))
"""


def sample(seed: int) -> TokenisedExample:
    ids = (1, *((7 * seed + 3 * i) % 60 for i in range(9)))
    return TokenisedExample(ids, (-100,) * 4 + ids[4:])


SAMPLES = [sample(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("model"), "qwen3", tied=True)


@pytest.fixture(scope="module")
def expected(model):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield accumulate(load_model(model), SAMPLES)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def runs(model, tmp_path_factory):
    """The folder of the results, and by death: exit code, whether it finished, samples resumed."""
    place = tmp_path_factory.mktemp("runs")
    pairs = json.dumps([[s.input_ids, s.labels] for s in SAMPLES])
    deaths = json.dumps([death[:2] for death in DEATHS])
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, model, place, pairs, deaths],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr
    return place, json.loads(result.stdout)


@pytest.mark.parametrize(("where", "count", "done"), DEATHS)
def test_a_killed_run_goes_on(runs, expected, where, count, done):
    place, codes = runs
    name = f"{where}-{count}"
    assert codes[name] == [-signal.SIGKILL, False, done]
    maps = load_file(place / f"{name}.safetensors")
    assert maps.keys() == expected.keys()
    assert all(torch.equal(maps[key], expected[key]) for key in expected)
