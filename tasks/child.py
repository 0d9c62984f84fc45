"""Run one function in a process of its own, so that two trainings go side by side.

Threads would share torch's random state and Python's lock; a child shares neither. Imports neither
Prefect nor torch, so that the child starts quickly.
"""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from paraknow_core.errors import ParaknowError
from paraknow_core.progress import Progress


class ChildError(ParaknowError):
    """A child process failed or was killed; the message ends with the child's own traceback."""


def run_in_child(function: Callable[..., Any], *, progress: Progress, **arguments: Any) -> Any:
    """Call ``function(progress=…, **arguments)`` in a fresh process and return its result.

    Args:
        function: importable by name; its arguments and result must pickle.
        progress: called here with what the child reports.
        arguments: the function's other arguments.

    Raises:
        ParaknowError: the child's own error, or a ChildError if it failed otherwise or died.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(there, function, arguments), daemon=True)
    child.start()
    there.close()
    try:
        return _listen(here, progress, child)
    finally:
        child.terminate()
        child.join()


def _listen(here: Connection, progress: Progress, child: Any) -> Any:
    while True:
        try:
            kind, value = here.recv()
        except EOFError:
            child.join()
            msg = f"the child process ended without a result (exit code {child.exitcode})"
            raise ChildError(msg) from None
        if kind == "progress":
            progress(*value)
        elif kind == "result":
            return value
        else:
            raise value


def _serve(there: Connection, function: Callable[..., Any], arguments: dict[str, Any]) -> None:
    """The child's main: a broken pipe on reporting ends it when its parent is gone."""

    def report(done: int, total: int, message: str) -> None:
        there.send(("progress", (done, total, message)))

    try:
        there.send(("result", function(progress=report, **arguments)))
    except ParaknowError as error:
        there.send(("error", error))
    except Exception:  # noqa: BLE001 - whatever it is, the parent must hear of it
        there.send(("error", ChildError(traceback.format_exc())))
