"""Seeds together against one by one, and against the published algorithm; and products alone.

    python -m benchmarks.together                          # a quarter of an hour of one core
    python -m benchmarks.together --cases tiny --runs 1    # a trial; its ratios say little

CPU seconds of one thread, the ways in turns, medians. The products are those of a model's matrices
with as many rows as a seed has, and as a batch has: what the processor does at best.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks import core_steps, inputs

TOKENS = 1024
WIDE = inputs.Size(4096, 11008, 1)
CASES = {
    "tiny": (inputs.TINY.teacher, 4),
    "small": (inputs.SMALL.teacher, 32),
    "medium": (inputs.MEDIUM.teacher, 32),
    "width 4096": (WIDE, 8),
}


def compare(size: inputs.Size, count: int, runs: int) -> str:
    """Measure one teacher; returns its cells of the table."""
    from benchmarks import reference
    from paraknow_core.sensitivity.accumulate import accumulate

    model, samples = inputs.model(size), inputs.samples(count)
    ways: list[Callable[[], object]] = [
        lambda: reference.sensitivity(model, samples),
        lambda: accumulate(model, samples),
        lambda: accumulate(model, samples, batch_tokens=TOKENS),
    ]
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in range(runs):
        for way, found in zip(ways, seconds, strict=True):
            found.append(_cpu(way))
    published, alone, together = (statistics.median(found) for found in seconds)
    return (
        f"{published:.2f} | {alone:.2f} ({published / alone:.2f}×) | "
        f"{together:.2f} ({published / together:.2f}×) | {alone / together:.2f}×"
    )


def products(size: inputs.Size, rows: int) -> str:
    """GFLOP/s of a forward product, and of those for the gradients of input and weights."""
    import torch

    weight_MN = torch.randn(size.ffn, size.hidden)
    x_TN, dy_TM = torch.randn(rows, size.hidden), torch.randn(rows, size.ffn)
    calls: list[Callable[[], Any]] = [
        lambda: x_TN @ weight_MN.T,
        lambda: dy_TM @ weight_MN,
        lambda: dy_TM.T @ x_TN,
    ]
    work = 2e-9 * rows * size.hidden * size.ffn
    rates = (work / statistics.median(_cpu(call) for _ in range(5)) for call in calls)
    return " | ".join(f"{rate:.0f}" for rate in rates)


def _cpu(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES][1:])
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    os.environ.update(core_steps.ONE_THREAD)

    import torch

    torch.set_num_threads(1)
    compare(inputs.TINY.teacher, 2, 1)  # imports what is imported late
    print("| teacher | published | one by one | together | one by one / together |")
    print("|---|--:|--:|--:|--:|")
    for name in options.cases:
        size, count = CASES[name]
        print(f"| {name}, {count} seeds | {compare(size, count, options.runs)} |", flush=True)
    print("\n| product, GFLOP/s | forward | input's gradient | weights' gradient |")
    print("|---|--:|--:|--:|")
    for name in options.cases:
        for rows in (171, 684):
            print(f"| {name}, {rows} rows | {products(CASES[name][0], rows)} |", flush=True)


if __name__ == "__main__":
    main()
