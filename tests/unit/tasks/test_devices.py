"""Runs on one machine take turns on a device: by locks, and by the limits of a server."""

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.patience import PATIENCE, wait_until
from support.site import PROJECT

from tasks.engine.devices.turn import device_names, limit_name, turn

GPU = {"CUDA_VISIBLE_DEVICES": "3"}


def going_on() -> None:
    pass


def wanted(
    locks: Path,
    *,
    environment: dict[str, str] = GPU,
    device: str = "cuda",
    check: Callable[[], None] = going_on,
) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(turn(device, environment, label="step", locks=locks, check=check))
    return stack


HOLDER = """
import sys, time
from pathlib import Path
from tasks.engine.devices.turn import turn

folder, turns, seconds, name = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]

def write(line):
    with (folder / "log").open("a") as file:
        file.write(f"{name} {line}\\n")

write("ready")
while turns > 1 and (folder / "log").read_text().count("ready") < 2:
    time.sleep(0.01)
for _ in range(turns):
    with turn("cuda", {"CUDA_VISIBLE_DEVICES": "3"}, label="s", locks=folder, check=lambda: None):
        write("on")
        time.sleep(seconds)
        write("off")
"""


def start_holder(
    folder: Path, *, turns: int = 1, seconds: float = 600, name: str = "a"
) -> "subprocess.Popen[bytes]":
    words = (sys.executable, "-c", HOLDER, str(folder), str(turns), str(seconds), name)
    return subprocess.Popen(words, cwd=PROJECT)


def has_begun(folder: Path) -> bool:
    log = folder / "log"
    return log.exists() and " on" in log.read_text()


@pytest.mark.parametrize(
    ("device", "visible", "name"),
    [
        ("cpu", "1", "cpu"),
        ("cuda", "", "gpu0"),
        ("cuda", "2,1", "gpu2"),
        ("cuda", " GPU-8f2a", "gpuGPU-8f2a"),
    ],
)
def test_a_device_is_named_by_what_is_visible(device: str, visible: str, name: str) -> None:
    assert device_names(device, {"CUDA_VISIBLE_DEVICES": visible}) == (name,)


def test_a_limit_s_name_holds_nothing_that_prefect_refuses() -> None:
    assert limit_name("gpu0", "box") == "paraknow-box-gpu0"
    assert limit_name("gpuMIG-1/2/0", "a&b") == "paraknow-a-b-gpuMIG-1-2-0"


def test_two_processes_take_turns_and_neither_starves(tmp_path: Path) -> None:
    both = [start_holder(tmp_path, turns=3, seconds=0.3, name=name) for name in "ab"]
    for process in both:
        assert process.wait(PATIENCE) == 0
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    told = [line for line in lines if line[1] != "ready"]
    assert [what for _, what in told] == ["on", "off"] * 6, "two had it at once"
    who = [name for name, what in told if what == "on"]
    assert all(a != b for a, b in itertools.pairwise(who)), who


def test_a_killed_holder_s_device_is_free_at_once(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        wait_until("the holder's turn", lambda: has_begun(tmp_path))
    finally:
        holder.kill()
        holder.wait()
    with wanted(tmp_path):
        pass


def test_slots_of_one_run_on_one_gpu_do_not_exclude_each_other(tmp_path: Path) -> None:
    with wanted(tmp_path), wanted(tmp_path):
        pass
    assert start_holder(tmp_path, seconds=0).wait(PATIENCE) == 0, "the lock was not freed"


def test_other_gpus_and_the_cpu_are_not_waited_for(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        wait_until("the holder's turn", lambda: has_begun(tmp_path))
        with (
            wanted(tmp_path, environment={"CUDA_VISIBLE_DEVICES": "4"}),
            wanted(tmp_path, device="cpu"),
        ):
            pass
        asked: list[float] = []

        def interrupt() -> None:
            asked.append(time.monotonic())
            if len(asked) > 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            wanted(tmp_path, check=interrupt)
    finally:
        holder.kill()
        holder.wait()
    with wanted(tmp_path):  # who was interrupted holds neither door nor device
        pass


def test_a_folder_without_locks_costs_only_the_turn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with wanted(tmp_path / "nowhere"):
        pass
    assert "carrying on without" in caplog.text
