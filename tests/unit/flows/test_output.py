"""Output that cannot be written ends in one sentence, wherever it was printed; nothing raises."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.patience import PATIENCE

from flows.cli.output import Surviving

PRINTS = """
import atexit, logging, sys, threading
from flows.cli.output import open_standard_descriptors, surviving_output
open_standard_descriptors()
with surviving_output():
    atexit.register(print, "at exit")
    logging.basicConfig(stream=sys.stdout, level="INFO")
    print("x" * 200_000, flush=True)
    thread = threading.Thread(target=print, args=("in a thread",), kwargs={"flush": True})
    thread.start()
    thread.join()
    logging.info("in a log")
    print("to stderr", file=sys.stderr)
    sys.exit(CODE)
"""


def printing(redirection: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable]
    return subprocess.run(
        [*command, PRINTS.replace("CODE", str(code))],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("code", [0, 1])
def test_a_full_stdout_is_one_sentence(code: int) -> None:
    done = printing("> /dev/full", code)
    assert done.returncode == (code or 2)
    said = done.stderr.splitlines()
    assert said[0] == "to stderr"
    assert said[1].startswith("error: stdout could not be written (No space left on device)")
    assert len(said) == 2


def test_a_reader_that_has_gone_is_no_error() -> None:
    done = printing('| (exec <&-); echo "${PIPESTATUS[0]}"')
    assert (done.stdout, done.stderr) == ("141\n", "to stderr\n")


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", "2> /dev/full"])
def test_streams_that_are_closed_do_no_harm(redirection: str) -> None:
    done = printing(redirection)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


@given(st.lists(st.text(max_size=9).map(lambda text: text * 2000)), st.booleans())
def test_what_can_be_written_is_written_and_what_cannot_never_raises(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], full: bool
) -> None:
    path = Path("/dev/full") if full else tmp_path_factory.mktemp("out") / "out"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        raw = Surviving(descriptor)
        stream = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "surrogatepass", newline="")
        for text in texts:
            stream.write(text)
        stream.flush()
        stream.close()
    finally:
        os.close(descriptor)
    anything = any(texts)
    assert (raw.failure is not None) == (full and anything)
    if not full:
        assert path.read_bytes().decode("utf-8", "surrogatepass") == "".join(texts)
