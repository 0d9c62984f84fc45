"""One row a measurement, printed as it comes, within the minutes that there are."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
HEAD = "| model | step | seconds | TFLOP/s | of the card | GB/s | of the card | peak GB |"


@dataclass
class Run:
    """A benchmark on its way.

    Attributes:
        device: ``cuda`` or ``cpu``.
        until: when it has to end, by ``time.monotonic``.
        place: an empty folder for weights.
        flops, copied: what the card reaches in a plain product, and reading and writing memory.
        seconds: of each step that was run, by model and step.
        lines: of the report.
    """

    device: str
    until: float
    place: Path
    flops: float = 0.0
    copied: float = 0.0
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Print a line of the report."""
        print(line, flush=True)
        self.lines.append(line)

    def step(
        self,
        model: str,
        step: str,
        call: Callable[[], T],
        *,
        needs: float,
        flop: float = 0.0,
        moved: float = 0.0,
        times: int = 1,
    ) -> T | None:
        """Run a step and print its row; one that does not fit into time or memory is told.

        Args:
            model: of the row.
            step: of the row.
            call: what is measured.
            needs: seconds that it may take; with fewer left it is skipped.
            flop: operations of its products.
            moved: bytes that it has to read and write.
            times: the call does that many of the same; the row is of one.

        Returns:
            What the call returned; None if it was not run.
        """
        if self.device == "cuda" and time.monotonic() + needs > self.until:
            self.say(f"| {model} | {step} | skipped: may take {needs:.0f} s | | | | | |")
            return None
        on_gpu = self.device == "cuda"
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
        start = time.perf_counter()
        try:
            found = call()
        except torch.OutOfMemoryError:
            self.say(f"| {model} | {step} | does not fit into memory | | | | | |")
            return None
        if on_gpu:
            torch.cuda.synchronize()
        spent = (time.perf_counter() - start) / times
        self.seconds[model, step] = spent
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:.1f}" if on_gpu else ""
        cells = [model, step, f"{spent:.3g}"]
        for amount, unit, card in ((flop, 1e12, self.flops), (moved, 1e9, self.copied)):
            speed = amount / spent
            share = f"{speed / card:.0%}" if amount and card else ""
            cells += [f"{speed / unit:.3g}" if amount else "", share]
        self.say(f"| {' | '.join(cells)} | {peak} |")
        return found


def quickest(call: Callable[[], object], device: str, *, runs: int = 10) -> float:
    """Seconds of the quickest of several calls."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def measure_card(run: Run, *, side: int) -> None:
    """What a plain product in bfloat16 and a plain copy reach here."""
    a, b = (torch.randn(side, side, device=run.device).bfloat16() for _ in range(2))
    run.flops = 2 * side**3 / quickest(lambda: a @ b, run.device)
    x = torch.ones(side * side, device=run.device)
    y = torch.empty_like(x)
    run.copied = 2 * x.nbytes / quickest(lambda: y.copy_(x), run.device)
    c, d = (torch.randn(side // 2, side // 2, device=run.device).double() for _ in range(2))
    double = 2 * (side // 2) ** 3 / quickest(lambda: c @ d, run.device, runs=5)
    run.say(
        f"Plain products: {run.flops / 1e12:.3g} TFLOP/s in bfloat16, {double / 1e12:.3g} in "
        f"float64. A copy in memory: {run.copied / 1e9:.4g} GB/s, read and written."
    )
    if run.device == "cuda":
        there = torch.empty(side * side, pin_memory=True)
        over = there.nbytes / quickest(lambda: x.copy_(there, non_blocking=True), run.device)
        run.say(f"From pinned memory to the card: {over / 1e9:.3g} GB/s.")
