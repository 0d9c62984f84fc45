"""Processes that are kept running: started, started again when they end, stopped in order."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flows.server.server_settings import ServerError
from flows.server.watcher import Watcher

QUICK: Final = 60.0
"""Seconds; a process that ended earlier than this has failed, not just died."""
FAILURES: Final = 5
"""So many in succession, and it is not started again: something is wrong that stays so."""
LONGEST_WAIT: Final = 30.0


@dataclass
class KeptProcess:
    """One process of this site.

    Attributes:
        name: as it is called to the user.
        command: program and arguments.
        environment: all of it.
        log: file that gets what the process prints.
        folder: that it works in.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    folder: Path
    process: "subprocess.Popen[Any] | None" = field(default=None, init=False)
    failures: int = field(default=0, init=False)
    due: float = field(default=0.0, init=False)
    started: float = field(default=0.0, init=False)
    _watcher: Watcher | None = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Start it, away from the terminal's signals; it ends with this process."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watcher = Watcher(self.process.pid, group=True)
        self.started = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def look(self, say: Callable[[str], None]) -> None:
        """Start it again if it has ended, at the latest half a minute later.

        Args:
            say: is told what happened.

        Raises:
            ServerError: if it ends again and again.
        """
        now = time.monotonic()
        if self.process is None:
            if now >= self.due:
                self.start()
                say(f"{self.name}: started again")
            return
        code = self.process.poll()
        if code is None:
            return
        self.failures = self.failures + 1 if now - self.started < QUICK else 0
        self._forget()
        if self.failures >= FAILURES:
            raise ServerError(
                f"{self.name} ended {FAILURES} times, each within a minute of its start (at last "
                f"{_end_of(code)}): {self.last_words()} All of it: {self.log}"
            )
        wait = min(2.0**self.failures, LONGEST_WAIT)
        self.due = now + wait
        say(f"{self.name}: {_end_of(code)}; it is started again in {wait:.0f} s")

    def ask_to_end(self) -> None:
        """Send SIGTERM to it, not to what it has started."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, seconds: float) -> None:
        """Wait for its end, then kill what is left of it and of what it has started."""
        if self.process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(max(seconds, 0.0))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._forget()

    def last_words(self) -> str:
        """The end of what it printed, in one line."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
            told = [line.strip() for line in lines if line.strip()]
            return " ".join(told[-3:])[-400:]
        return ""

    def _forget(self) -> None:
        if self._watcher is not None:
            self._watcher.close()
        self.process = self._watcher = None


def _end_of(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
