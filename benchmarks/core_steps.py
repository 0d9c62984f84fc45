"""Time the core steps against the published algorithm, in one process on one thread.

    python -m benchmarks.core_steps            # every case, about a quarter of an hour
    python -m benchmarks.core_steps --quick    # a trial on tiny inputs; its ratios say little
    python -m benchmarks.core_steps --report benchmarks/reports/NAME.md

Prints each result as it comes, then which of the project's performance goals are met.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.cases import Row

# Set before any library loads, and inherited by the processes started from here.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def _everything(quick: bool) -> Iterator["Row"]:
    from benchmarks import cases, inputs

    if quick:
        yield from cases.whole_pair(inputs.TINY, 4)
        yield from cases.windows_13b([(640, 640, 512, 512)])
        yield from cases.decompositions([(1024, 1024)], ["flat", "spiked"])
        yield from cases.libraries([(1024, 1024)], ["flat", "spiked", "power"])
        yield from cases.memory(["sensitivity tiny"])
        return
    yield from cases.whole_pair(inputs.SMALL, inputs.SAMPLES)
    yield from cases.whole_pair(inputs.MEDIUM, inputs.SAMPLES)
    yield from cases.windows_13b(
        [
            (5120, 5120, 4096, 4096),
            (13824, 5120, 11008, 4096),
            (32000, 5120, 32000, 4096),
        ]
    )
    yield from cases.decompositions([(4096, 4096)], ["flat", "spiked"])
    yield from cases.decompositions([(11008, 4096)], ["spiked"])
    yield from cases.libraries([(2048, 2048), (4096, 4096)], ["flat", "spiked", "power"])
    yield from cases.libraries([(32000, 576)], ["spiked"])
    yield from cases.memory(["sensitivity small", "sensitivity medium", "window", "svd"])


def _warm_up() -> None:
    """Import what is imported lazily, so that the first measured call does not pay for it."""
    from benchmarks import cases, inputs

    list(cases.whole_pair(inputs.TINY, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny inputs, half a minute")
    parser.add_argument("--report", type=Path, help="also write a Markdown report to this file")
    options = parser.parse_args()
    os.environ.update(ONE_THREAD)

    import torch

    from benchmarks import report

    torch.set_num_threads(1)
    _warm_up()
    start = time.perf_counter()
    rows = []
    for row in _everything(options.quick):
        rows.append(row)
        print(report.line(row), flush=True)
    text = report.markdown(
        rows,
        command="python -m benchmarks.core_steps " + " ".join(sys.argv[1:]),
        minutes=(time.perf_counter() - start) / 60,
    )
    print("\n" + report.goals(rows))
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text)


if __name__ == "__main__":
    main()
