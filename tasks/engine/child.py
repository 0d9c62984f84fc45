"""Run functions in processes of their own, so that two computations run at the same time.

Threads would share torch's random state and Python's lock; a child shares neither, and if it is
killed (out of memory, say) only what it was computing fails. Imports neither Prefect nor torch, so
that the child starts quickly.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from tqdm import tqdm

from paraknow_core.errors import ParaknowError
from paraknow_core.progress import Progress
from tasks.engine.freed_memory import giving_back
from tasks.engine.parent import end_with_parent, held_back

_GRACE_SECONDS = 5.0
"""How long an idle child has to end by itself."""


class ChildError(ParaknowError):
    """A child process failed or was killed; the message ends with the child's own traceback."""


class ChildLostError(ChildError):
    """A child process ended without a result: it was killed, or crashed."""


class ChildCancelledError(Exception):
    """A child process was asked to end (SIGTERM), as Prefect asks all of a run that is cancelled.

    No failure, so no ``ParaknowError``: nothing else of the run goes on either.
    """


class Worker:
    """A child process that calls one function after another; started at first use.

    It keeps what it has imported, so the second call starts at once. A worker that died is started
    anew by the next call.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Set what the child's environment has beyond this process's own."""
        self.environment = dict(environment or {})
        self._child: Any = None
        self._pipe: Connection | None = None
        self._busy = self._closed = False
        self._lock = threading.Lock()  # over these four: one thread may close what another uses

    def run(self, function: Callable[..., Any], *, progress: Progress, **arguments: Any) -> Any:
        """Call ``function(progress=…, **arguments)`` in the child and return its result.

        Args:
            function: importable by name; its arguments and result must pickle.
            progress: called here with what the child reports.
            arguments: the function's other arguments.

        Raises:
            ParaknowError: the child's own error, or a ChildError if it failed otherwise, died or
                was closed.
            ChildCancelledError: if it was ended by SIGTERM.
        """
        pipe = self._start()
        try:
            pipe.send((function, arguments))
            return self._listen(pipe, progress)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self._end()
            if code == -signal.SIGTERM:
                msg = "cancelled while it computed; what was computed before is kept"
                raise ChildCancelledError(msg) from None
            msg = f"the child process ended without a result (exit code {code})"
            raise ChildLostError(msg) from None
        except ParaknowError:
            raise  # the child's own: it waits for its next call
        except BaseException:
            self._end()  # it is still computing what nobody waits for
            raise
        finally:
            self._busy = False

    def close(self) -> None:
        """End the child, whatever it is doing, for good: a later call is refused."""
        with self._lock:
            self._closed = True
        self._end()

    def rest(self) -> None:
        """End the child, which is idle, and what it holds of memory; the next call starts anew."""
        self._end()

    def _start(self) -> Connection:
        with self._lock:
            if self._closed:
                msg = "the child process was closed"
                raise ChildError(msg)
            if self._pipe is None:
                context = multiprocessing.get_context("spawn")
                self._pipe, there = context.Pipe()
                self._child = context.Process(
                    target=_serve, args=(there, self.environment), daemon=True
                )
                resource_tracker.ensure_running()  # its start would let signals through again
                # The terminal's SIGINT is for this process, which ends the child.
                with held_back(signal.SIGINT), giving_back():
                    self._child.start()
                there.close()
            self._busy = True
            return self._pipe

    def _end(self) -> int | None:
        with self._lock:
            child, pipe, busy = self._child, self._pipe, self._busy
            self._child = self._pipe = None
        if child is None or pipe is None:
            return None
        if not busy:
            pipe.close()  # an idle child ends by itself, and tidies up
            child.join(_GRACE_SECONDS)
        # Another thread may be reading the pipe of a busy one: the child's end ends its read. If
        # the pipe were closed here, its file descriptor could already belong to another file.
        child.kill()  # nothing is lost: a step's output is published complete or not at all
        child.join()
        code: int | None = child.exitcode
        return code

    @staticmethod
    def _listen(pipe: Connection, progress: Progress) -> Any:
        while True:
            kind, value = pipe.recv()
            if kind == "progress":
                progress(*value)
            elif kind == "result":
                return value
            else:
                raise value


def run_in_child(function: Callable[..., Any], *, progress: Progress, **arguments: Any) -> Any:
    """Call ``function(progress=…, **arguments)`` in a fresh process; see ``Worker.run``."""
    worker = Worker()
    try:
        return worker.run(function, progress=progress, **arguments)
    finally:
        worker.close()


def _serve(pipe: Connection, environment: Mapping[str, str]) -> None:
    """The child's main: it ends when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - this is a child
    end_with_parent(parent.sentinel)
    # A daemon may have no children of its own, and a training has one for each of its GPUs. They
    # end with this process in the same way.
    multiprocessing.current_process().daemon = False
    os.environ.update(environment)
    # Its bars are this process's own. A lock for several processes, tqdm's default, would have
    # to be swept up with a warning after a kill.
    tqdm.set_lock(threading.RLock())

    def report(done: int, total: int, message: str) -> None:
        pipe.send(("progress", (done, total, message)))

    while True:
        try:
            function, arguments = pipe.recv()
            pipe.send(_answer(function, arguments, report))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


def _answer(
    function: Callable[..., Any], arguments: dict[str, Any], report: Progress
) -> tuple[str, Any]:
    try:
        return "result", function(progress=report, **arguments)
    except ParaknowError as error:
        return "error", error
    except (BrokenPipeError, ConnectionResetError):
        raise  # nobody listens any more
    except Exception:  # noqa: BLE001 - whatever it is, the parent must hear of it
        return "error", ChildError(traceback.format_exc())
