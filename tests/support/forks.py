"""Runs that die, forked from one process that has imported everything: one start for many deaths.

The script of a ``ForkServer`` imports what its runs need and ends with ``serve(run)``.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.patience import PATIENCE

TESTS = Path(__file__).parents[1]


def serve(run: Callable[..., Any]) -> None:
    """Call ``run(*arguments)`` in a fork for each line of input; answer its exit code and result.

    Nothing may have started a thread before, and torch's own must be one.
    """
    for line in sys.stdin:
        here, there = os.pipe()
        child = os.fork()
        if not child:
            code = 1
            try:
                os.dup2(2, 1)  # stdout is for the answers alone
                os.write(there, json.dumps(run(*json.loads(line))).encode())
                code = 0
            except BaseException:  # noqa: BLE001  reported to the test, whatever it is
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(there)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with os.fdopen(here, "rb") as answer:
            said = answer.read().decode()
        sys.stdout.write(json.dumps([code, said]) + "\n")
        sys.stdout.flush()


class ForkServer:
    """The process that forks; use it as a context manager."""

    def __init__(self, script: str) -> None:
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_error: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._process.wait(PATIENCE)
        self._errors.close()

    def run(self, *arguments: Any) -> Any:
        """Return what a run returned; fail if it died."""
        code, said = self._ask(arguments)
        if code != 0:
            self._fail()
        return json.loads(said)

    def run_to_death(self, *arguments: Any) -> None:
        """Fail unless the run killed itself."""
        code, _said = self._ask(arguments)
        if code != -signal.SIGKILL:
            self._fail()

    def _ask(self, arguments: tuple[Any, ...]) -> tuple[int, str]:
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._fail()
        code, said = json.loads(answer)
        return code, said

    def _fail(self) -> None:
        self._errors.seek(0)
        pytest.fail(self._errors.read()[-3000:])
