import os

import pytest
from support.patience import PATIENCE

pytest_plugins = ["support.figures"]

# Read when Prefect is imported. A client that gives up and asks again makes two runs of one.
os.environ.setdefault("PREFECT_API_REQUEST_TIMEOUT", str(int(PATIENCE)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device, and torch sees none here")
