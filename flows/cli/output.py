"""Output that nobody takes: a full disk behind stdout, a reader that is gone, no stdout at all."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

FAILED: Final = 2
CLOSED_PIPE: Final = 141
"""What a shell reports of a program that wrote into a closed pipe (128 + SIGPIPE)."""


class Surviving(io.FileIO):
    """A file descriptor to which all can be written; what failed first is remembered.

    An error here would come up wherever somebody prints: in a step, in a thread that draws bars,
    in logging, when Python exits. The results are in the store and do not depend on it.
    """

    def __init__(self, descriptor: int) -> None:
        """Write to a descriptor that stays open."""
        super().__init__(descriptor, "w", closefd=False)
        self.failure: OSError | None = None

    def write(self, data: Any) -> int | None:  # type: ignore[override]  # as FileIO's own
        """Write what can be written; once that failed, nothing more."""
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


@contextmanager
def surviving_output() -> Iterator[None]:
    """Let what runs inside print, and say at the end what could not be printed.

    Raises:
        SystemExit: 141 if the reader of stdout had gone (such as ``head``), which is no error; 2
            with one sentence if stdout could not be written otherwise.
    """
    streams = [sys.stdout, sys.stderr]
    if streams != [sys.__stdout__, sys.__stderr__]:  # somebody reads along, such as a test
        yield
        return
    out, _err = _replaced("stdout", 1), _replaced("stderr", 2)
    code: Any = None
    try:
        yield
    except SystemExit as end:
        code = end.code
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, OSError):  # closed by the program; a terminal that went away
            stream.flush()
    sys.exit(_code(code, out.failure))


def _code(code: Any, failure: OSError | None) -> Any:
    """Return the exit code, after a word on what stdout did not take."""
    if failure is None:
        return code
    if failure.errno == errno.EPIPE:
        return code or CLOSED_PIPE
    print(  # noqa: T201 - as plain as can be
        f"error: stdout could not be written ({failure.strerror}), so not all that was to be "
        "printed is there; what was computed is kept. Print to another place, and run it again.",
        file=sys.stderr,
    )
    return code or FAILED


def open_standard_descriptors() -> None:
    """See to it that no other file gets the number of a closed stdin, stdout or stderr."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(opened, True)
    os.close(opened)


def _replaced(name: str, descriptor: int) -> Surviving:
    """Put a stream that survives in place of ``sys.stdout`` or ``sys.stderr``."""
    old, raw = getattr(sys, name), Surviving(descriptor)
    encoding, errors = (old.encoding, old.errors) if old else ("utf-8", "replace")
    by_line = bool(old) and old.line_buffering
    new = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=by_line)
    setattr(sys, name, new)
    return raw
