"""Seeds: one for each purpose, and global random generators whose state is restored afterwards."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy
import torch


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose under a user's seed, so that two purposes never draw the same."""
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1  # 63 bits: fits a signed 64-bit integer


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the states of Python's, NumPy's and torch's generators (CPU and GPU) at the end."""
    python, legacy = random.getstate(), numpy.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(legacy)
