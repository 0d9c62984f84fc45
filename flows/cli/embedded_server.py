"""Prefect's embedded server, where no other is set: a command that is killed does not leave it."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

_WAIT_AND_KILL = 'read -r _; kill "$1"'
"""Read: returns when the command's end of the pipe is closed, even by a SIGKILL."""


@contextlib.contextmanager
def embedded_server() -> Iterator[None]:
    """Start the embedded server if no server is set; end it with this process.

    Prefect ends it when Python exits. After a SIGKILL (such as for want of memory) it would stay,
    with its memory and its port, so a shell of a few hundred kilobytes waits for that.
    """
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.settings import get_current_settings

    if get_current_settings().api.url or os.name != "posix":
        yield
        return
    server = SubprocessASGIServer()
    server.start()
    assert server.server_process is not None  # noqa: S101 - it has started
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WAIT_AND_KILL, "sh", str(server.server_process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not for it
    )
    try:
        yield
    finally:
        watcher.kill()
        watcher.communicate()
