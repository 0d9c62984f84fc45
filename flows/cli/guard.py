"""A command is ended within seconds, whatever it is doing: another process waits for the signals.

Python looks at a signal between two of its own instructions, and a thread pool waits for its
threads: a command in the middle of one long C++ call, or of a step in a thread, would end minutes
later. So on Linux the command runs in a child, and its parent does nothing but wait.
"""

import contextlib
import fcntl
import os
import signal
import time
from dataclasses import dataclass, field
from typing import Any, Final

from tasks.engine.parent import end_with_parent

GRACE_SECONDS: Final = 3.0
"""How long an interrupted command may take to tidy up; what it computed is safe without that."""
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN: Final = "run the same command again to go on"

_SAME_SECONDS: Final = 0.2
"""`timeout` and some shells send a signal to the process and to its group: that is once."""
_SHOW_CURSOR: Final = b"\x1b[?25h"


def guard() -> None:
    """Go on in a child process, and end it, with its own children, when this one is interrupted.

    Returns in the child only; this process exits as the child does, or with 128 + the signal's
    number: 130 after Ctrl-C. A first signal gives the child some seconds to tidy up, a second one
    none. Signals that were ignored when the command started (nohup) stay ignored.
    """
    watched = {number for number in ENDING if signal.getsignal(number) != signal.SIG_IGN}
    if not hasattr(fcntl, "F_SETSIG"):  # not Linux: forking may break what is loaded later
        _interrupt_at(watched, say=True)
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would leave no exit code
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*watched, signal.SIGCHLD})
    ours, theirs = os.pipe()  # that end stays open for as long as this process lives
    child = os.fork()
    if child:
        os.close(ours)
        os._exit(_Watch(child, watched).code())
    os.close(theirs)
    end_with_parent(ours)
    _interrupt_at(watched)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _interrupt_at(signals: set[signal.Signals], *, say: bool = False) -> None:
    """Raise KeyboardInterrupt in the main thread at the first of these signals, and only then.

    The terminal sends a signal to the child too, besides what its parent hands on.
    """

    def interrupt(number: int, _frame: Any) -> None:
        if say:
            _say_interrupted(number)
        for other in signals:
            # A function, unlike SIG_IGN, is not inherited by what this process starts.
            signal.signal(other, lambda *_: None)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, interrupt)


@dataclass
class _Watch:
    """What the parent knows of its child and of the signals that came."""

    child: int
    signals: set[signal.Signals]
    first: int = field(default=0, init=False)
    since: float = field(default=0.0, init=False)
    killed: bool = field(default=False, init=False)

    def code(self) -> int:
        """Wait for the child's end and return the exit code for this process."""
        while True:
            number = self._next()
            if number == signal.SIGCHLD:
                ended, status = os.waitpid(self.child, os.WNOHANG)
                if ended:
                    return self._code(os.waitstatus_to_exitcode(status))
            elif number is None:
                self._kill()
            elif not self.first:
                self._interrupt(number)
            elif time.monotonic() - self.since > _SAME_SECONDS:
                self._kill()

    def _next(self) -> int | None:
        """Wait for a signal; None once the child's time is up."""
        awaited = {*self.signals, signal.SIGCHLD}
        if not self.first or self.killed:
            return signal.sigwaitinfo(awaited).si_signo
        left = max(0.0, self.since + GRACE_SECONDS - time.monotonic())
        found = signal.sigtimedwait(awaited, left)
        return found.si_signo if found else None

    def _interrupt(self, number: int) -> None:
        self.first, self.since = number, time.monotonic()
        _say_interrupted(number)
        self._send(signal.SIGINT if signal.SIGINT in self.signals else number)

    def _kill(self) -> None:
        self.killed = True
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.child, number)

    def _code(self, code: int) -> int:
        if self.first:
            _show_cursor()
            return 128 + self.first
        if code < 0:  # by the system for want of memory, or by somebody
            _show_cursor()
            name = signal.Signals(-code).name
            reason = " (for want of memory?)" if -code == signal.SIGKILL else ""
            _say(f"error: the command was ended by {name}{reason}; {AGAIN}")
            return 128 - code
        return code


def _say_interrupted(number: int) -> None:
    _say(f"interrupted ({signal.Signals(number).name}): what was computed is kept; {AGAIN}")


def _say(text: str) -> None:
    """Write a line to the terminal, without any of the machinery that the child may hold."""
    with contextlib.suppress(OSError):
        below = "\n" if os.isatty(2) else ""  # the terminal's ^C, and bars
        os.write(2, f"{below}{text}\n".encode("ascii"))


def _show_cursor() -> None:
    """Undo what a child that was killed while it drew bars has left of the terminal."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(descriptor):
                os.write(descriptor, _SHOW_CURSOR)
