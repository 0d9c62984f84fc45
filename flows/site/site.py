"""What ``paraknow up`` keeps on one machine: a server on loopback, and workers of one pool."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from flows.operation.set_up.pool import POOL
from flows.operation.set_up.server import set_up
from flows.server.server_settings import ServerError
from flows.site.keeper import KeptProcess
from flows.site.runs import end_processes, mark_ended, runs_under_way
from flows.site.settings import HOST, SiteSettings

_PREFECT: Final = (sys.executable, "-m", "prefect", "--no-prompt")
_LOOK_SECONDS: Final = 0.5
_START_SECONDS: Final = 300.0
"""A first start makes the database, on a busy machine as well."""
_WORKER_SECONDS: Final = 20.0
"""A worker that is asked to end finishes its requests to the server."""
_SERVER_SECONDS: Final = 15.0


class SiteEnded(Exception):  # noqa: N818 - nothing is wrong
    """The user, or the system, asked the site to end."""


@dataclass
class MachineSite:
    """A server and its workers, kept running until a signal asks for the end.

    Attributes:
        settings: what was chosen.
        environment: of all its processes.
        say: is told what happens.
    """

    settings: SiteSettings
    environment: dict[str, str] = field(repr=False)
    say: Callable[[str], None]
    server: KeptProcess = field(init=False)
    workers: list[KeptProcess] = field(init=False)
    _asked: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Describe the processes; none is started."""
        port = str(self.settings.port)
        self.server = self._kept("server", "server", "start", "--host", HOST, "--port", port)
        self.workers = [self._worker(gpu) for gpu in self.settings.gpus] or [self._worker("")]

    def keep(self, file: Path, ready: Callable[[], None]) -> None:
        """Start everything, keep it running, and stop it when a signal comes.

        Args:
            file: with the deployments.
            ready: is called once all of it has started.

        Raises:
            ServerError: if the server does not start, refuses what is set up, or if something
                ends again and again.
        """
        with self._signals():
            try:
                self.server.start()
                self._wait_for_server()
                for line in set_up(file):
                    self.say(line)
                    self._check()
                for worker in self.workers:
                    worker.start()
                ready()
                while True:
                    self._check()
                    for kept in (self.server, *self.workers):
                        kept.look(self.say)
                    time.sleep(_LOOK_SECONDS)
            except SiteEnded:
                pass
            except Exception:
                if not self._asked:  # Ctrl-C reaches the command that deploys as well
                    raise
            finally:
                self._stop()

    def _kept(self, name: str, *command: str, **environment: str) -> KeptProcess:
        return KeptProcess(
            name,
            (*_PREFECT, *command),
            self.environment | environment,
            self.settings.folder / f"{name.replace(' ', '-').replace('/', '-')}.log",
            self.settings.work_in,
        )

    def _worker(self, gpu: str) -> KeptProcess:
        host = socket.gethostname()
        name = f"{host} gpu {gpu}" if gpu else host
        seen = {"CUDA_VISIBLE_DEVICES": gpu} if gpu else {}
        command = ("worker", "start", "--pool", POOL, "--limit", "1", "--name", name)
        return self._kept(f"worker gpu {gpu}" if gpu else "worker", *command, **seen)

    def _wait_for_server(self) -> None:
        """Wait until the server answers; one that ends now would end again."""
        until = time.monotonic() + _START_SECONDS
        while not self._answers():
            self._check()
            if not self.server.is_running:
                raise ServerError(
                    f"the server ended at its start: {self.server.last_words()} All of it: "
                    f"{self.server.log}"
                )
            if time.monotonic() > until:
                raise ServerError(
                    f"the server did not answer within {_START_SECONDS:.0f} s: {self.server.log}"
                )
            time.sleep(_LOOK_SECONDS)

    def _answers(self) -> bool:
        try:
            health = f"{self.settings.address}/api/health"
            return httpx.get(health, timeout=5, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _check(self) -> None:
        if self._asked:
            raise SiteEnded

    def _stop(self) -> None:
        """Stop the workers with their runs, then the server, so that it is told of all of it."""
        running = [kept for kept in self.workers if kept.is_running]
        runs = runs_under_way() if running and self._answers() else []
        for kept in running:
            self.say(f"{kept.name}: is stopped")
            kept.ask_to_end()
        until = time.monotonic() + _WORKER_SECONDS
        for kept in self.workers:
            kept.end(until - time.monotonic())
        if runs:
            end_processes(runs)
            mark_ended(runs)
            names = ", ".join(run.name for run in runs)
            self.say(f"ended, and marked Crashed; what they computed is kept: {names}")
        if self.server.is_running:
            self.say("server: is stopped")
            self.server.ask_to_end()
        self.server.end(_SERVER_SECONDS)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note the first signal that asks for the end; at a second one kill all."""

        def end(number: int, _frame: Any) -> None:
            self._asked.append(number)
            if len(self._asked) > 1:
                for kept in (*self.workers, self.server):
                    kept.end(0)
                os._exit(128 + number)

        watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.getsignal(number) for number in watched}
        for number, handler in before.items():
            if handler != signal.SIG_IGN:  # as nohup has it
                signal.signal(number, end)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
