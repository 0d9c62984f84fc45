"""Steps that go on from partial results: from what is as it was written, and made by what runs now.

Each step is stopped on the way; then what it saved is damaged, or code or a library changes, and it
computes again. Whatever happens, its output has the bytes of a computation that nobody stopped.
"""

import gc
import inspect
import logging
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.edited import edit_sources
from support.stopped import CASES, Stopped, compute, stopped_steps

from tasks.engine.code import drift
from tasks.engine.ref import folder_of
from tasks.engine.run_step import run_step
from tasks.steps import STEPS


@pytest.fixture(scope="module", autouse=True)
def one_thread_and_quick_collections() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    import peft  # noqa: F401
    import transformers.trainer  # noqa: F401

    gc.collect()
    gc.freeze()  # a training collects garbage twice, and need not look at the libraries' objects
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stopped]]:
    with stopped_steps(tmp_path_factory.mktemp("pair")) as steps:
        yield steps


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_every_step_that_resumes_is_tried_here() -> None:
    goes_on = re.compile(r"job\.partial(?!\.new_draft)")  # a draft ends with its run
    resuming = {
        name
        for name, step in STEPS.items()
        if goes_on.search(inspect.getsource(sys.modules[step.compute.__module__]))
    }
    assert resuming == {case.step or name for name, case in CASES.items()}


def _flip(path: Path, draw: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(data)


HARM: dict[str, Callable[[Path, random.Random], Any]] = {
    "a flipped bit": _flip,
    "emptied": lambda path, _draw: path.write_bytes(b""),
    "cut": lambda path, draw: path.write_bytes(
        path.read_bytes()[: draw.randrange(path.stat().st_size)]
    ),
    "missing": lambda path, _draw: path.unlink(),
}


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *(
            (name, how)
            for name in ("sensitivity", "sensitivity, streamed", "decompose")
            for how in sorted(HARM)
        ),
        *((name, how) for name in ("finetune", "pretrain") for how in ("a flipped bit", "cut")),
    ],
)
def test_damage_anywhere_changes_no_byte_of_the_output(
    name: str,
    how: str,
    stopped: Callable[[str], Stopped],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case, draw = stopped(name), random.Random(f"{name} {how}")
    saves = case.left(tmp_path / "work")
    assert saves
    harmed = draw.sample(saves, draw.randint(1, len(saves)))
    for save in harmed:
        HARM[how](draw.choice(sorted(save.iterdir())), draw)
    assert case.goes_on(tmp_path / "work") == case.whole
    said = warnings(caplog)
    assert len(said) == len(harmed)
    assert all(save.name in " ".join(said) for save in harmed)
    assert all(text.startswith(f"{CASES[name].label}: ") for text in said)
    assert sorted(p.name for p in tmp_path.glob("work.aside/*/*")) == sorted(s.name for s in harmed)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_is_whole_is_taken_up(
    name: str,
    stopped: Callable[[str], Stopped],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = stopped(name)
    saves = case.left(tmp_path / "work")
    job = case.job(tmp_path / "work")
    assert sorted((tmp_path / "work" / "resume" / "saved").iterdir()) == saves
    assert compute(case.need, job) == case.whole
    assert not warnings(caplog)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_other_code_began_is_begun_again(
    name: str,
    stopped: Callable[[str], Stopped],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = stopped(name)
    steps = {each: other.step or each for each, other in CASES.items()}
    others = [o.function for each, o in CASES.items() if steps[each] != steps[name]]
    edit_sources(tmp_path / "others", monkeypatch, *others)
    saves = case.left(tmp_path / "work")
    case.job(tmp_path / "work")  # what does not concern this step is no reason
    assert all(save.exists() for save in saves)
    assert not warnings(caplog)

    edit_sources(tmp_path / "edited", monkeypatch, CASES[name].function)
    case.job(tmp_path / "work")
    assert not any(save.exists() for save in saves)
    said = warnings(caplog)
    module = CASES[name].function.partition(".py")[0].replace("/", ".")
    assert len(said) == len(saves)
    assert all(f"{module} changed" in text for text in said)


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_another_library_version_began_is_begun_again(
    name: str,
    stopped: Callable[[str], Stopped],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case, installed = stopped(name), drift.library_version
    saves = case.left(tmp_path / "work")
    versions = {"matplotlib": "0.1"}
    monkeypatch.setattr(drift, "library_version", lambda n: versions.get(n) or installed(n))
    case.job(tmp_path / "work")  # no step that resumes draws pictures
    assert all(save.exists() for save in saves)
    versions["torch"] = "0.2"
    case.job(tmp_path / "work")
    assert not any(save.exists() for save in saves)
    assert all(f"torch {installed('torch')} → 0.2" in text for text in warnings(caplog))
    assert len(warnings(caplog)) == len(saves)


def test_partial_results_of_other_settings_are_not_taken_up(
    stopped: Callable[[str], Stopped], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = stopped("decompose")
    saves = case.left(tmp_path / "work")
    other = replace(case.need, config=case.need.config.model_copy(update={"max_rank": 4}))
    replace(case, need=other).job(tmp_path / "work")
    assert not any(save.exists() for save in saves)
    assert "another step, setting or input" in warnings(caplog)[0]


OLDER = {
    "sensitivity": ["progress.json", "sums-000002.safetensors"],
    "decompose": ["00000.safetensors", "00000.json"],
    "finetune": ["checkpoint-2/trained.safetensors", "checkpoint-2/complete.json"],
    "pretrain": ["checkpoint-2/trained.safetensors", "checkpoint-2/complete.json"],
}


@pytest.mark.parametrize("name", sorted(OLDER))  # other steps did not resume then
def test_partial_results_of_the_version_before_are_moved_aside(
    name: str,
    stopped: Callable[[str], Stopped],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = stopped(name)
    for file in OLDER[name]:
        path = tmp_path / "work" / "resume" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    case.job(tmp_path / "work")
    assert all(list(tmp_path.glob(f"work.aside/*/{file}")) for file in OLDER[name])
    assert not list((tmp_path / "work" / "resume" / "saved").iterdir())
    (said,) = warnings(caplog)
    assert "another version of paraknow" in said


def test_a_run_publishes_what_nobody_damaged_and_keeps_what_somebody_did(
    stopped: Callable[[str], Stopped], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Through the store: the work folder is adopted, and goes; what was moved aside stays."""
    case, store = stopped("decompose"), stopped("decompose").store
    payload = case.need.payload
    saves = case.left(store.root / "work" / payload.key() / "of-a-killed-run")
    save = next(path for path in saves[0].iterdir() if path.suffix == ".safetensors")
    _flip(save, random.Random(0))
    (store.root / "work" / payload.key() / "stray").write_bytes(b"no folder")
    need = case.need
    ref = run_step(
        need.step, label=need.label, config=need.config, inputs=need.inputs, run=need.run
    )
    stored = folder_of(store, ref)
    assert {path.name: path.read_bytes() for path in stored.iterdir()} == case.whole
    (said,) = warnings(caplog)
    assert "factors.safetensors does not have the bytes that were written" in said
    left = sorted(path.name for path in (store.root / "work" / payload.key()).iterdir())
    assert len(left) == 2
    assert left[0].endswith(".aside")
    assert left[1] == "stray"
