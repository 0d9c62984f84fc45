"""A comparison that is killed or interrupted goes on where it was, and leaves no process behind.

It is interrupted as a person does it: by Ctrl-C on its terminal, which also reaches its children.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.pair import pair_settings
from support.patience import PATIENCE, wait_until

from artifacts.store import Store
from flows.config.compare import CompareConfig

pytestmark = [pytest.mark.flow, pytest.mark.timeout(2400)]

PARAKNOW = Path(sys.executable).parent / "paraknow"


@pytest.fixture
def settings(pair: Path, tmp_path: Path) -> dict[str, Any]:
    one = pair_settings(pair, tmp_path / "store")
    return {
        "name": "tiny",
        "pairs": [{"name": "small", "teacher": one["teacher"], "student": one["student"]}],
        "tasks": [{"name": "words", "data": one["data"]}],
        "methods": ["plain", "transfer"],
        "settings": {step: one[step] for step in ("lora", "decompose", "finetune", "evaluate")},
        "tuning": {"learning_rates": [1e-2], "seeds": [1000]},
        "seeds": [0, 1, 2, 3, 4],
        "slots": {"cpu": 2},
        "run": one["run"],
    }


TAKE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
TAKE_TERMINAL += "os.execvp(sys.argv[1], sys.argv[1:])"


def start(
    settings: dict[str, Any], folder: Path, *, terminal: int | None = None
) -> "subprocess.Popen[str]":
    """``paraknow compare`` in a session of its own, as a terminal would start it."""
    config = folder / "compare.yaml"
    config.write_text(yaml.safe_dump(settings))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    taking = [sys.executable, "-c", TAKE_TERMINAL] if terminal is not None else []
    return subprocess.Popen(
        # A runner in the background may ignore Ctrl-C, and what it starts would ignore it too.
        [*taking, "env", "--default-signal", str(PARAKNOW), "compare", str(config), "--json"],
        env=kept | {"PREFECT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"},
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(store: Store, step: str, count: int, process: "subprocess.Popen[str]") -> None:
    def found() -> bool:
        assert process.poll() is None, process.communicate()[1]
        return sum(record.step == step for record in store.records()) >= count

    wait_until(f"{count} results of {step}", found)


def nobody_is_left(process: "subprocess.Popen[str]") -> None:
    """Workers, Prefect's embedded server and its watcher end with what started them."""
    wait_until(
        f"the end of what {process.pid} had started",
        lambda: not living(process.pid),
        seconds=60,
        otherwise=lambda: f"processes were left behind: {living(process.pid)}",
    )


def living(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(after_name[3]) == session and after_name[0] != "Z":
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text()
    except OSError:
        return ""


def test_the_next_run_computes_only_what_is_missing(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    store = CompareConfig.model_validate(settings).run.open_store()
    first = start(settings, tmp_path)
    wait_for(store, "finetune", 1, first)
    (server,) = (pid for pid in living(first.pid) if "uvicorn" in command_of(pid))
    os.kill(server, signal.SIGINT)  # as a terminal does: it is not for the server
    wait_for(store, "finetune", 2, first)
    assert "uvicorn" in command_of(server)
    os.kill(first.pid, signal.SIGKILL)  # the parent alone, as for want of memory
    first.communicate(timeout=PATIENCE)
    nobody_is_left(first)

    keyboard, terminal = os.openpty()
    second = start(settings, tmp_path, terminal=terminal)
    wait_for(store, "finetune", 4, second)
    os.write(keyboard, b"\x03")  # Ctrl-C
    _, said = second.communicate(timeout=PATIENCE)
    os.close(keyboard)
    os.close(terminal)
    assert second.returncode == 130, said
    assert said.count("run the same command again to go on") == 1
    assert "Traceback" not in said
    nobody_is_left(second)

    before = {record.key for record in store.records()}
    third = start(settings, tmp_path)
    out, said = third.communicate(timeout=PATIENCE)
    assert third.returncode == 0, said
    result = json.loads(out)
    assert result["failed"] == 0
    assert result["reused"] == len(before)
    assert result["computed"] == sum(1 for _ in store.records()) - len(before)
