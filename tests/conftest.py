import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from support.patience import PATIENCE

pytest_plugins = ["support.figures"]

# The same examples each time, on slow machines too; `--hypothesis-profile explore` draws others.
settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "explore", settings.get_profile("same"), derandomize=False, max_examples=1000
)
settings.load_profile("same")

# Jobs that each take every core wait for one another. Read when torch is imported, here or in a
# process that a test starts.
if jobs := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))

# Read when Prefect is imported. A client that gives up and asks again makes two runs of one.
os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", str(int(PATIENCE)))


# No test shares its results with anybody's bucket.
os.environ.pop("PARAKNOW_REMOTE", None)

# Where the key lies that stamps are signed with: no test touches the user's own.
_DATA = tempfile.TemporaryDirectory(prefix="paraknow-data-")
os.environ["XDG_DATA_HOME"] = _DATA.name


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Flows last: the cheap tests speak first, and Prefect's threads come after Hypothesis.

    The client's websockets draw from the `random` module in a thread of their own for as long as
    the session's server lives; Hypothesis fails any test during which somebody draws from it. With
    several jobs (pytest-xdist) this holds for each: a job is given files in this order.
    """
    items.sort(key=lambda item: "flow" in item.path.relative_to(item.config.rootpath).parts)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none here")
