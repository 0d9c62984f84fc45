"""The flow compare-cells as the workers of a test run it: leases of the dead run out in seconds.

A deployment names ``support.fanned.compare_cells``; each run says on its output that it has begun.
"""

import os
import sys

from artifacts.remote import lease
from flows.cells import compare_cells

__all__ = ["compare_cells"]

SECONDS = 15.0
lease.SECONDS = SECONDS  # type: ignore[misc]
sys.stdout.write(f"begun on GPU {os.environ.get('CUDA_VISIBLE_DEVICES', 'any')}\n")
sys.stdout.flush()
