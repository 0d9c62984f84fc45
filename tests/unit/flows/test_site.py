"""What `paraknow up` keeps: its password, what is in its way, processes that end."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.patience import wait_until

from flows.cli.up import up_command
from flows.server.server_settings import ServerError
from flows.site import keeper
from flows.site.keeper import KeptProcess
from flows.site.password import server_password
from flows.site.settings import (
    SiteSettings,
    database_shown,
    database_url,
    environment,
    refuse_what_is_there,
)
from paraknow_core.errors import ConfigError


def test_a_password_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    made = server_password(tmp_path / "new", {})
    file = tmp_path / "new" / "auth"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() == made.text
    user, _, secret = made.text.partition(":")
    assert user == "paraknow"
    assert len(secret) >= 32
    assert server_password(tmp_path / "new", {}) == made
    assert server_password(tmp_path / "other", {}) != made
    assert secret not in repr(made) + made.shell + made.place
    file.chmod(0o640)
    with pytest.raises(ServerError, match="chmod 600"):
        server_password(tmp_path / "new", {})


def test_a_password_of_ones_own_is_taken_and_checked(tmp_path: Path) -> None:
    own = server_password(tmp_path, {"PREFECT_API_AUTH_STRING": "me:secret"})
    assert (own.text, own.shell) == ("me:secret", '"$PREFECT_API_AUTH_STRING"')
    assert not list(tmp_path.iterdir())
    with pytest.raises(ServerError, match="USER:PASSWORD") as refused:
        server_password(tmp_path, {"PREFECT_SERVER_API_AUTH_STRING": "secret"})
    assert "secret" not in str(refused.value)


def settings(folder: Path, **other: object) -> SiteSettings:
    told = {"port": 4200, "gpus": (), "database": "", "folder": folder, "work_in": folder}
    return SiteSettings(**(told | other))  # type: ignore[arg-type]


def test_databases_are_named_without_their_password(tmp_path: Path) -> None:
    url = database_url("postgresql://me:secret@host:5432/prefect")
    assert url == "postgresql+asyncpg://me:secret@host:5432/prefect"
    site = settings(tmp_path / "paraknow", database=url)
    assert database_shown(site) == "PostgreSQL, host/prefect"
    assert "secret" not in repr(site)
    assert (
        environment(site, server_password(tmp_path, {})).items()
        >= {
            "PREFECT_API_URL": "http://127.0.0.1:4200/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        }.items()
    )
    assert database_shown(settings(tmp_path / "paraknow")) == str(tmp_path / "prefect.db")
    with pytest.raises(ServerError, match="postgresql://") as refused:
        database_url("mysql://me:secret@host/x")
    assert "secret" not in str(refused.value)


def test_a_server_that_is_named_and_a_port_in_use_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.site.settings._ANSWER_SECONDS", 0.1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        site = settings(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(ServerError, match="another program has port"):
            refuse_what_is_there(site, {})
        with pytest.raises(ServerError, match="names another server"):
            refuse_what_is_there(site, {"PREFECT_API_URL": "http://elsewhere:4200/api"})
    refuse_what_is_there(site, {"PREFECT_API_URL": f"{site.address}/api/"})


@pytest.mark.parametrize(
    ("given", "said"), [("0,,1", "with commas"), ("0,0", "the same GPU"), ("0 1", "with commas")]
)
def test_gpus_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, said: str
) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    file = tmp_path / "deployments.yaml"
    with pytest.raises(ConfigError, match="no file"):
        up_command(file=file, port=4200, gpus="", database="")
    file.write_text("deployments: []")
    with pytest.raises(ConfigError, match=said):
        up_command(file=file, port=4200, gpus=given, database="")


def kept(folder: Path, script: str) -> KeptProcess:
    environment = {"PATH": os.environ["PATH"]}
    return KeptProcess("worker", ("/bin/sh", "-c", script), environment, folder / "log", folder)


def test_what_dies_is_started_again_and_what_dies_again_and_again_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "LONGEST_WAIT", 0.01)
    said: list[str] = []
    process = kept(tmp_path, "echo no database; exit 3")
    process.start()

    def look_until_refused() -> bool:
        try:
            process.look(said.append)
        except ServerError as error:
            said.append(str(error))
            return True
        return False

    wait_until("the end", look_until_refused, every=0.01)
    assert said.count("worker: started again") == keeper.FAILURES - 1
    assert sum("ended with exit code 3; it is started again" in line for line in said) == 4
    assert "ended 5 times" in said[-1]
    assert "no database" in said[-1]
    assert not process.is_running


def test_one_that_lived_long_is_no_failure(tmp_path: Path) -> None:
    said: list[str] = []
    process = kept(tmp_path, "kill -9 $$")
    process.failures = 4
    process.start()
    process.started = time.monotonic() - keeper.QUICK
    assert process.process is not None
    process.process.wait()
    process.look(said.append)
    assert said == ["worker: was ended by SIGKILL; it is started again in 1 s"]


def test_an_end_takes_what_a_process_has_started(tmp_path: Path) -> None:
    process = kept(tmp_path, "trap '' TERM; sleep 1000 & echo $!; wait; wait")
    process.start()
    below = int(wait_until("its child", lambda: process.log.read_text().strip(), every=0.02))
    process.ask_to_end()
    process.end(0.05)
    assert not process.is_running
    wait_until("the child's end", lambda: not _lives(below), every=0.02)


def test_a_kept_process_ends_with_the_one_that_keeps_it(tmp_path: Path) -> None:
    """Even by SIGKILL: no server stays on a port, no worker takes runs that nobody asked for."""
    script = (
        "import sys, time; from pathlib import Path; from flows.site.keeper import KeptProcess\n"
        "one = KeptProcess('w', ('/bin/sleep', '1000'), {}, Path('log'), Path('.'))\n"
        "one.start(); print(one.process.pid, flush=True); time.sleep(1000)"
    )
    keeping = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
    )
    assert keeping.stdout is not None
    below = int(keeping.stdout.readline())
    assert _lives(below)
    os.kill(keeping.pid, signal.SIGKILL)
    keeping.communicate()
    wait_until("the end of what it kept", lambda: not _lives(below), every=0.02)


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
