"""A PostgreSQL server of a test's own, where its programs are found."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from support.site import free_port

_PLACES = Path("/usr/lib/postgresql")
_USER = "postgres"
_QUICK = "-c fsync=off -c full_page_writes=off -c synchronous_commit=off"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, None where it is not installed."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(_PLACES.glob("*/bin"))
    return places[-1] if places and _can_run() else None


def _can_run() -> bool:
    """It refuses to run as root, and then needs its own user."""
    if os.getuid():
        return True
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(_USER)) and shutil.which("setpriv") is not None
    return False


@contextlib.contextmanager
def database(place: Path) -> Iterator[str]:
    """Run a server with an empty database; yields its address as SQLAlchemy takes it.

    Args:
        place: of its programs.
    """
    folder = Path(tempfile.mkdtemp(prefix="paraknow-pg-"))
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, _USER, pwd.getpwnam(_USER).pw_gid)
        as_user = ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups"]

    def call(*command: str) -> None:
        run = [*as_user, str(place / command[0]), "-D", str(folder / "data"), *command[1:]]
        log = folder / "commands.log"
        with log.open("ab") as out:
            done = subprocess.run(run, cwd=folder, stdout=out, stderr=out, check=False)
        assert done.returncode == 0, log.read_text(errors="replace")

    try:
        call("initdb", "--auth=trust", f"--username={_USER}", "--no-sync", "--no-locale", "-EUTF8")
        port = free_port()
        listen = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} {_QUICK}"
        call("pg_ctl", "-w", "-o", listen, "-l", str(folder / "server.log"), "start")
        try:
            yield f"postgresql+asyncpg://{_USER}@127.0.0.1:{port}/{_USER}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
