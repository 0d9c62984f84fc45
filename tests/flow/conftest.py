from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.testing.utilities import prefect_test_harness
from support.pair import write_pair
from support.patience import PATIENCE
from support.site import Site


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=int(PATIENCE)):
        yield


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """`paraknow up`: a server, a worker, and everything of deployments.yaml deployed."""
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        site.start_all()
        yield site
    finally:
        site.stop()
