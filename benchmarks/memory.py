"""Peak memory of the sensitivity on a CPU against the estimate of ``--plan``, over a grid.

    python -m benchmarks.memory    # five minutes of one core; Linux

Each cell is a process of its own: a teacher, the tokens of a row, and how it is computed: with
everything in memory, the same with what a layer keeps computed again (as the step does for rows
that are long for their teacher), or layer by layer. Printed are the estimate, the growth of the
resident set, weights and maps included, and how the two compare. Freed blocks go back to the
system at once (``MALLOC_MMAP_THRESHOLD_``), as those of large teachers do anyway.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import inputs
from benchmarks.cases import RETURNED_AT_ONCE
from benchmarks.measure import peak_growth
from paraknow_core.data.examples import NO_LOSS, TokenisedExample

TEACHERS = {
    "34M": (inputs.SMALL.teacher, 8192),
    "82M": (inputs.Size(768, 2064, 8), 16_384),
}
TOKENS = (64, 512, 2048)
WAYS = ("whole", "recomputed", "by layer")


def _measure(teacher: str, tokens: int, way: str, place: Path) -> dict[str, int]:
    """Compute the sensitivity of two samples; returns estimated and measured bytes."""
    import torch

    from paraknow_core.inspection.sensitivity_memory import sensitivity_memory
    from paraknow_core.models.describe import describe
    from paraknow_core.models.load import load_model
    from paraknow_core.sensitivity.accumulate import accumulate
    from paraknow_core.sensitivity.streamed.stream import stream

    torch.set_num_threads(1)
    size, vocabulary = TEACHERS[teacher]
    for folder, of in (("warm", inputs.TINY.teacher), ("teacher", size)):
        inputs.model(of, vocabulary=vocabulary).save_pretrained(place / folder)

    def run(name: str, length: int) -> object:
        ids = tuple(range(10, 10 + length))
        labels = (NO_LOSS,) * (length // 2) + ids[length // 2 :]
        samples = [TokenisedExample(ids, labels)] * 2
        if way == "by layer":
            return stream(
                place / name, samples, take=lambda *_: [], out=place, scratch=place / "warm"
            )
        start = 1 if way == "recomputed" else None
        return accumulate(_own(load_model(place / name)), samples, recompute_from=start)

    run("warm", 16)  # imports what is imported late
    growth = peak_growth(lambda: run("teacher", tokens))
    architecture = describe(place / "teacher")
    need = sensitivity_memory(
        architecture,
        element_bytes=4,
        longest=tokens,
        tokens=2 * tokens,
        recompute=way == "recomputed",
    )
    tensors = 8 * architecture.num_parameters
    estimate = need.streamed if way == "by layer" else need.whole
    return {"estimate": estimate, "growth": growth, "tensors": tensors}


def _own(model: object) -> object:
    """Make the weights the process's own: mapped ones count only as far as they were touched."""
    import torch

    for parameter in model.parameters():  # type: ignore[attr-defined]
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return model


def main() -> None:
    if len(sys.argv) > 1:  # one measurement, in a process of its own
        with tempfile.TemporaryDirectory() as place:
            found = _measure(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(place))
        print(json.dumps(found))
        return
    print("| teacher | tokens | way | estimate MB | measured MB | estimate / measured |")
    print("|---|--:|---|--:|--:|--:|")
    for teacher, tokens, way in itertools.product(TEACHERS, TOKENS, WAYS):
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", teacher, str(tokens), way],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | RETURNED_AT_ONCE,
        )
        cell = json.loads(answer.stdout.splitlines()[-1])
        estimate, growth = cell["estimate"] / 1e6, cell["growth"] / 1e6
        ratio = estimate / growth
        print(f"| {teacher} | {tokens} | {way} | {estimate:.0f} | {growth:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
