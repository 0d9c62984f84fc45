"""The server is killed in the middle of a run, and later loses its database: the store knows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pair import pair_settings, write_pair
from support.patience import PATIENCE, wait_until
from support.site import PROJECT, Site

from artifacts.care.verify import verify
from artifacts.names import StepKey
from artifacts.store import Store

pytestmark = [
    pytest.mark.flow,
    pytest.mark.faults,
    pytest.mark.figures(kills=3, faults=1),
    pytest.mark.timeout(2400),
]

MAIN = "from flows.cli.main import main; main()"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    try:
        site.start_server()
        yield site
    finally:
        site.stop()


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    settings = pair_settings(write_pair(tmp_path / "pair"), tmp_path / "store")
    config = tmp_path / "pair.yaml"
    config.write_text(json.dumps(settings))
    return [sys.executable, "-c", MAIN, "transfer", str(config), "--until", "lora", "--json"]


def keys(store: Store) -> set[StepKey]:
    return set(store.ledger.all_keys())


def wait_for(store: Store, count: int, process: subprocess.Popen[bytes]) -> int:
    def enough() -> int:
        assert process.poll() is None, f"the run ended before {count} results"
        found = len(keys(store))
        return found if found >= count else 0

    return wait_until(f"{count} results", enough, every=0.01)


def run_again(site: Site, command: list[str]) -> dict[str, str]:
    """Step -> how it went, of a run that has a server."""
    done = subprocess.run(
        command,
        env=site.environment,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {step["key"]: step["status"] for step in json.loads(done.stdout)["steps"]}


def test_nothing_published_is_computed_again(site: Site, command: list[str]) -> None:
    store = Store.open(site.folder / "store")
    run = subprocess.Popen(
        command,
        env=site.environment,
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        at_kill = wait_for(store, 3, run)
        site.kill()  # the server
        time.sleep(2)  # for the step under way
    finally:
        os.killpg(run.pid, signal.SIGKILL)  # it would wait for minutes for the server
        run.wait()
    published = keys(store)
    assert len(published) >= at_kill
    assert verify(store) == []

    site.start_server()  # with its database
    second = run_again(site, command)
    assert len(second) > len(published), (
        "the server was killed after the last step: nothing was tested"
    )
    assert {second[key] for key in published} == {"cached"}

    site.kill()
    databases = list((site.folder / "home").glob("prefect.db*"))
    assert databases
    for path in databases:
        path.unlink()
    site.start_server()  # with an empty one
    third = run_again(site, command)
    assert third.keys() == second.keys()
    assert set(third.values()) == {"cached"}
    assert verify(store) == []
