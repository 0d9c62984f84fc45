"""A command ends soon after a signal, with a word, whatever it is doing; nothing of it stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from support import guarded
from support.patience import PATIENCE, wait_until

NEVER = str(10 * PATIENCE)
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a guarded command in a session of its own; returns once it is ready."""
    started = []

    def run(how: str, grace: str, *before: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            ["env", "--default-signal", *before, sys.executable, guarded.__file__, how, grace],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        return process

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code and output, once no process is left that could write more of it."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_can_run_no_more_python_ends_with_a_word(
    start: Start, number: signal.Signals
) -> None:
    process = start("stuck", "0.1")
    os.kill(process.pid, number)
    code, _, err = ended(process)
    assert code == 128 + number
    assert err.startswith(f"interrupted ({number.name}): ")
    assert err.count("\n") == 1


def test_the_word_comes_at_once_and_a_second_signal_ends_at_once(start: Start) -> None:
    process = start("stuck", NEVER)
    os.kill(process.pid, signal.SIGINT)
    assert process.stderr is not None
    assert "run the same command again to go on" in process.stderr.readline()
    assert process.poll() is None

    def ended_by_one_more() -> bool:
        os.kill(process.pid, signal.SIGINT)
        return process.poll() is not None

    wait_until("the end", ended_by_one_more)
    assert ended(process) == (130, "", "")


def test_a_signal_to_the_whole_group_interrupts_once_and_leaves_time_to_tidy_up(
    start: Start,
) -> None:
    process = start("tidy", NEVER)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does
    code, out, err = ended(process)
    assert (code, out) == (130, "tidied up\n")
    assert "Traceback" not in err


def test_a_command_does_not_outlive_what_guards_it(start: Start) -> None:
    process = start("stuck", NEVER)
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process) == (-signal.SIGKILL, "", "")


def test_an_ignored_signal_stays_ignored(start: Start) -> None:
    process = start("tidy", NEVER, "--ignore-signal=HUP")
    os.killpg(process.pid, signal.SIGHUP)
    os.kill(process.pid, signal.SIGTERM)
    code, out, err = ended(process)
    assert (code, out) == (143, "tidied up\n")
    assert "SIGHUP" not in err


@pytest.mark.parametrize("code", [0, 2, 137])
def test_the_exit_code_is_the_commands(start: Start, code: int) -> None:
    how = "killed" if code == 137 else str(code)
    found, _, err = ended(start(how, NEVER))
    assert found == code
    assert ("want of memory" in err) == (code == 137)
