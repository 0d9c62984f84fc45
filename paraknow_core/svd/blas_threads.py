"""SciPy's linear algebra on as many threads as torch has.

Its BLAS has a pool of its own, which torch's setting does not reach: a run that was given one
thread would take them all, and the last bits of a result would hang on the machine's cores.
"""

from functools import lru_cache
from types import ModuleType

import torch
from threadpoolctl import threadpool_limits


def linalg() -> ModuleType:
    """``scipy.linalg`` with its BLAS, imported only now: that takes a tenth of a second."""
    import scipy.linalg.blas

    _limit(torch.get_num_threads())
    return scipy.linalg


@lru_cache(maxsize=1)  # the last number: setting it again would look through all loaded libraries
def _limit(threads: int) -> None:
    threadpool_limits(threads, user_api="blas")
