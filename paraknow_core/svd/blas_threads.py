"""SciPy's linear algebra on as many threads as torch has.

SciPy's BLAS has a thread pool of its own, which ``torch.set_num_threads`` does not change. Without
this file a run that was given one thread would use every core, and the last bits of its result
would depend on the number of cores.
"""

from functools import lru_cache
from types import ModuleType

import torch
from threadpoolctl import threadpool_limits


def linalg() -> ModuleType:
    """``scipy.linalg`` with its BLAS, imported here because the import takes 0.1 seconds."""
    import scipy.linalg.blas

    _limit(torch.get_num_threads())
    return scipy.linalg


@lru_cache(maxsize=1)  # each call of threadpool_limits searches all loaded libraries for a BLAS
def _limit(threads: int) -> None:
    threadpool_limits(threads, user_api="blas")
