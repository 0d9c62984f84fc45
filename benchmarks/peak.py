"""Peak resident memory of one step: ``python -m benchmarks.peak CASE SIDE``, a process for each.

Prints one line of JSON: the growth above the inputs (weights or map), which are in memory before,
and the inputs' size, both in bytes.
"""

import json
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks import inputs, reference
from benchmarks.measure import peak_growth
from paraknow_core.extraction.window import best_window
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.svd.truncated import truncated_svd


def _sensitivity(pair: inputs.Pair, side: str) -> tuple[Callable[[], object], int]:
    model = inputs.model(pair.teacher)
    samples = sorted(inputs.samples(), key=lambda sample: len(sample.input_ids))[-2:]
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if side == "reference":
        return lambda: reference.sensitivity(model, samples), size
    return lambda: accumulate(model, samples), size


def _window(side: str) -> tuple[Callable[[], object], int]:
    scores = inputs.sensitivity_map(13824, 5120)
    # The peak is in the table, which depends on the map alone: a window one row and column smaller
    # than the map has four positions, where the published loop would go through 2.9 million.
    if side == "reference":
        return lambda: reference.best_window(scores, 13823, 5119), scores.nbytes
    return lambda: best_window(scores, rows=11008, cols=4096), scores.nbytes


def _svd(side: str) -> tuple[Callable[[], object], int]:
    weight: Tensor = inputs.spiked_matrix(4096, 4096)
    if side == "reference":
        return lambda: reference.low_rank(weight, inputs.RANK), weight.nbytes
    return lambda: truncated_svd(weight, rank=inputs.RANK), weight.nbytes


def main(case: str, side: str) -> None:
    torch.set_num_threads(1)
    pairs = {f"sensitivity {p.name}": p for p in (inputs.TINY, inputs.SMALL, inputs.MEDIUM)}
    if case in pairs:
        call, size = _sensitivity(pairs[case], side)
    else:
        call, size = {"window": _window, "svd": _svd}[case](side)
    print(json.dumps({"growth": peak_growth(call), "inputs": size}))


if __name__ == "__main__":
    main(*sys.argv[1:])
