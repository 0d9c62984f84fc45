"""One computation in several processes that meet: each of them on a device of its own.

Each process is a child of this one, as any other that computes here: it reports its progress, gives
its own error, and ends with this process, however that ends. Its place is told in the variables
that ``torchrun`` sets, which accelerate and the Trainer go by. Their own launchers would not do:
``accelerate launch`` and ``torchrun`` start a script and leave its processes behind if they are
killed, ``notebook_launcher`` forks, and all of them want the main thread of a process that has no
parent of its own to end with.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from paraknow_core.progress import Progress, no_progress
from paraknow_core.registry import note_lookups, noted_lookups
from tasks.engine.child import ChildError, ChildLostError, Worker

_HERE: Final = "127.0.0.1"
_GRACE_SECONDS: Final = 5.0
"""How long after a failure it is waited for another one, which may be what caused it."""


def run_in_ranks(
    function: Callable[..., Any],
    *,
    count: int,
    gpus: Sequence[str] = (),
    progress: Progress,
    **arguments: Any,
) -> Any:
    """Call ``function(progress=…, **arguments)`` in several processes; return the first's result.

    What fails in one of them ends all. OMP_NUM_THREADS gives each its share of this process's torch
    threads.

    Args:
        function: importable by name; its arguments and result must pickle.
        count: of processes, at least 2.
        gpus: one for each, as CUDA_VISIBLE_DEVICES takes them; empty on a CPU.
        progress: called here with what the first reports.
        arguments: the function's other arguments.

    Raises:
        ParaknowError: as a process raised it; a ChildError that says which process failed, and how.
        ChildCancelledError: if one was ended by SIGTERM.
    """
    import torch
    from torch.distributed import TCPStore  # type: ignore[attr-defined] # documented, not listed

    # They meet at a port that this process has: one that they opened could be taken before they do.
    listening = socket.create_server((_HERE, 0))
    port, opened = listening.getsockname()[1], listening.detach()
    meeting = TCPStore(_HERE, port, is_master=True, wait_for_workers=False, master_listen_fd=opened)
    shared = {
        "MASTER_ADDR": _HERE,
        "MASTER_PORT": str(meeting.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // count)),
    }
    if sys.platform == "linux":  # none of this is for other machines to reach
        shared["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    if gpus:
        shared["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    places = [shared | {"RANK": str(n), "LOCAL_RANK": str(n)} for n in range(count)]
    group = _Group([Worker(place) for place in places])
    return group.run(function, progress, arguments)


class _Group:
    """Processes that are of use only all together."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = workers
        self._failures: list[tuple[int, BaseException]] = []
        self._another = threading.Condition()
        self._is_over = False

    def run(
        self, function: Callable[..., Any], progress: Progress, arguments: dict[str, Any]
    ) -> Any:
        """Run the first in this thread, as its progress belongs here, and each other in its own."""
        others = [
            threading.Thread(
                target=self._one, args=(n, function, no_progress, arguments), daemon=True
            )
            for n in range(1, len(self._workers))
        ]
        try:
            for other in others:
                other.start()
            found = self._one(0, function, progress, arguments)
            for other in others:
                other.join()
        finally:
            self._close()
        if self._failures:
            raise self._told() from None
        result, looked_up = found
        note_lookups(looked_up)
        return result

    def _one(
        self,
        number: int,
        function: Callable[..., Any],
        progress: Progress,
        arguments: Mapping[str, Any],
    ) -> Any:
        try:
            return self._workers[number].run(
                _in_rank, progress=progress, compute=function, **arguments
            )
        except BaseException as error:  # noqa: BLE001 - it is told, or raised, when all have ended
            self._failed(number, error)
            return None

    def _failed(self, number: int, error: BaseException) -> None:
        """Note what failed, and end all; what comes of that is no failure."""
        with self._another:
            if self._is_over:
                return
            self._failures.append((number, error))
            self._another.notify_all()
            if isinstance(error, ChildError) and not isinstance(error, ChildLostError):
                # It may have lost another one in a collective, whose end is about to be seen.
                self._another.wait_for(lambda: self._lost() or self._is_over, _GRACE_SECONDS)
        self._close()

    def _lost(self) -> bool:
        return any(isinstance(error, ChildLostError) for _, error in self._failures)

    def _close(self) -> None:
        with self._another:
            self._is_over = True
            self._another.notify_all()
        for worker in self._workers:
            worker.close()

    def _told(self) -> BaseException:
        """Choose what to raise: who lost another in a collective only says that it is gone."""
        number, error = next(
            (one for one in self._failures if not isinstance(one[1], ChildError)),
            next(
                (one for one in self._failures if isinstance(one[1], ChildLostError)),
                self._failures[0],
            ),
        )
        if isinstance(error, ChildError):
            of = f"process {number + 1} of {len(self._workers)}"
            return ChildError(f"{of} failed, and all were ended: {error}")
        return error


def _in_rank(
    compute: Callable[..., Any], progress: Progress, **arguments: Any
) -> tuple[Any, dict[str, list[str]]]:
    with noted_lookups() as looked_up:
        found = compute(progress=progress, **arguments)
    return found, {kind: sorted(names) for kind, names in looked_up.items()}
