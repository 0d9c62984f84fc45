"""The core steps on a GPU: seconds, speed beside what the card reaches, memory, agreement.

    python -m benchmarks.gpu               # under 8 minutes on one H100 or H200; 32 GB of disk
    python -m benchmarks.gpu --smallest    # the same code on next to nothing, on a CPU too

It needs torch, Transformers, PEFT and safetensors, and what they need; no Prefect, no data sets and
no model: weights are random, in the shapes of Llama-3.2-1B, Llama-2-7B and Llama-2-13B. Rows are
printed as they come, a step that does not fit into the minutes left is named as skipped, and the
report is written as Markdown.
"""

import argparse
import datetime
import re
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.gpu.agreement import agree
from benchmarks.gpu.models import SHAPES, SMALLEST, Shape
from benchmarks.gpu.run import HEAD, Run, measure_card
from benchmarks.gpu.steps import START, Rows, measure

PAIRS = (("1B", "half of 1B"), ("13B", "7B"), ("7B", "half of 7B"))
"""Teachers and students; the second is the goal's, so it comes before the third."""
GOAL = "13B"
GOAL_SECONDS = 60


def main(arguments: list[str] | None = None) -> Path:
    """Measure, and write the report.

    Returns:
        Its path.
    """
    asked = _asked(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not asked.smallest:
        raise SystemExit("Torch sees no GPU here. On a CPU only --smallest is of use.")
    shapes: dict[str, Shape] = SMALLEST if asked.smallest else SHAPES
    rows = Rows(2, 16) if asked.smallest else Rows(asked.rows, asked.tokens)
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    with tempfile.TemporaryDirectory(dir=asked.scratch) as place:
        run = Run(device, time.monotonic() + 60 * asked.minutes, Path(place))
        run.say(f"# The core steps on {card}\n")
        run.say(
            f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, "
            f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}; random weights in bfloat16; "
            f"{rows.count} rows of {rows.tokens} tokens, the second half of each an answer. "
            "Written by `python -m benchmarks.gpu`.\n"
        )
        measure_card(run, side=64 if asked.smallest else 8192)
        run.say("\n## Agreement\n")
        agree(run, SMALLEST["1B"], Rows(2, 16), side=64 if asked.smallest else 1200)
        run.say("\n## Steps\n")
        run.say(
            "Operations are those of the products that a step has to do, bytes those that it has "
            "to read and write at least.\n"
        )
        run.say(HEAD)
        run.say("|---|---|--:|--:|--:|--:|--:|--:|")
        for teacher, student in PAIRS:
            measure(run, teacher, shapes[teacher], shapes[student], rows)
        run.say(f"\n{_goal(run)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    named = re.sub(r"[^a-z0-9]+", "-", card.lower()).strip("-")
    path: Path = asked.out / f"gpu-{named}-{datetime.datetime.now(datetime.UTC):%Y-%m-%d}.md"
    path.write_text("\n".join(run.lines) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    return path


def _asked(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--smallest", action="store_true", help="tiny models, to see that it works")
    parser.add_argument("--minutes", type=float, default=7.5, help="after which nothing is begun")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--scratch", type=Path, help="a folder with room for the weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "reports")
    return parser.parse_args(arguments)


def _goal(run: Run) -> str:
    """The seconds from weights on disk to the start point, and whether they are few enough."""
    found = [run.seconds.get((GOAL, step)) for step in START]
    if any(seconds is None for seconds in found):
        missing = [step for step, seconds in zip(START, found, strict=True) if seconds is None]
        return f"**{GOAL} → 7B: not measured whole; missing: {', '.join(missing)}.**"
    total = sum(seconds for seconds in found if seconds is not None)
    reached = "reached" if total < GOAL_SECONDS else "NOT reached"
    if run.device == "cpu":
        return f"From weights on disk to the start point: {total:.3g} s, of a model of no size."
    return (
        f"**{GOAL} → 7B from weights on disk to the start point, reading included: {total:.1f} s; "
        f"the goal of under {GOAL_SECONDS} s is {reached}.**"
    )


if __name__ == "__main__":
    main()
