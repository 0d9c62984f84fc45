"""Randomness that does not leak: work that seeds the global generators gives them back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the caller back the states of Python's, NumPy's and torch's generators (CPU and GPU)."""
    python, legacy = random.getstate(), numpy.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(legacy)
