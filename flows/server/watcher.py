"""A process is ended when the one that started it is gone, even by a SIGKILL."""

import subprocess
from typing import Final

_WAIT_AND_END: Final = 'read -r _; kill -s TERM -- "$1"'
"""Read: returns when this process's end of the pipe is closed."""


class Watcher:
    """A shell of a few hundred kilobytes that waits for this process's end.

    Args:
        process: that is then sent SIGTERM.
        group: send it to all processes of the group that ``process`` leads.
    """

    def __init__(self, process: int, *, group: bool = False) -> None:
        target = f"-{process}" if group else str(process)
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _WAIT_AND_END, "sh", target],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not for it
        )

    def close(self) -> None:
        """Leave the process alone from now on."""
        self._shell.kill()
        self._shell.communicate()
