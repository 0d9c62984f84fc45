"""Prefect's embedded server as a run needs it: out of Ctrl-C's way, and gone with the run."""

import atexit
import contextlib
import signal
import subprocess
import time
from typing import Any, Final

import httpx
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings

from flows.server.server_settings import ServerError
from flows.server.watcher import Watcher
from tasks.engine.parent import held_back

_PORTS: Final = 3
"""How many ports are tried: another program may take one between the choice and the use."""


def start_embedded_server() -> None:
    """Start Prefect's embedded server; its client finds it, and it ends with this process.

    Raises:
        ServerError: if it ends by itself, as it does if it cannot write its database.
    """
    EmbeddedServer().start()


class EmbeddedServer(SubprocessASGIServer):
    """Prefect's own, but for two things that come up when it starts.

    Prefect ends it when Python exits. After a SIGKILL (such as for want of memory) it would stay,
    with its memory and its port, so a shell of a few hundred kilobytes waits for that. And it would
    get the terminal's Ctrl-C and end before the run that needs it to end well.
    """

    def _run_uvicorn_command(self) -> "subprocess.Popen[Any]":
        """Start the server, and wait until it answers or is gone.

        Prefect's own waiting takes the end of a server for a port in use, and starts it anew until
        minutes are over.
        """
        for _ in range(_PORTS):
            with held_back(signal.SIGINT, signal.SIGHUP):
                process = super()._run_uvicorn_command()
            # Registered before Prefect asks to stop the server at exit, so called after that.
            atexit.register(Watcher(process.pid).close)
            if _answers(process, f"{self.api_url}/health"):
                return process
            if self.port is not None and self.is_port_available(self.port):
                break  # the port was not the reason
            self.port = self.find_available_port()
        raise ServerError(
            f"Prefect's embedded server ended at its start (exit code {process.returncode}); what "
            f"it said is above. Look at its database in {get_current_settings().home}, or set "
            "PREFECT_HOME to another folder."
        )


def _answers(server: "subprocess.Popen[Any]", health: str) -> bool:
    limit = get_current_settings().server.ephemeral.startup_timeout_seconds
    until = time.monotonic() + limit
    with httpx.Client(trust_env=False) as client:
        while server.poll() is None:
            if time.monotonic() > until:
                server.kill()
                server.wait()
                break
            with contextlib.suppress(httpx.TransportError):
                if client.get(health).status_code == httpx.codes.OK:
                    return True
            time.sleep(0.1)
    return False
