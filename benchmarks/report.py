"""The results as text: one line each, a table of goals, and a Markdown report."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

from benchmarks.cases import Row

_LIBRARIES = ("torch", "transformers", "numpy", "scipy")


def line(row: Row) -> str:
    """One result for the terminal."""
    return (
        f"{row.step}: {row.case}: {row.reference:.3g} → {row.ours:.3g} {row.unit}"
        f", {row.ratio:.3g}×; {row.agreement}"
    )


def goals(rows: list[Row]) -> str:
    """Which goals are met, as a Markdown table."""
    if all(row.least is None for row in rows):
        return "There are no goals for inputs this small."
    out = ["| step | case | measured | at least | | stretch | |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if row.least is None:
            continue
        measured = f"{row.ours:.2f} {row.unit}" if row.limit else f"{row.ratio:.3g}×"
        cells = [row.step, row.case, measured]
        for goal in (row.least, row.stretch):
            if goal is None:
                cells += ["", ""]
            else:
                cells += [
                    f"≤ {goal:g}" if row.limit else f"{goal:g}×",
                    "MET" if row.meets(goal) else "MISSED",
                ]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def _results(rows: list[Row]) -> str:
    out = [
        "| step | case | published | ours | | ratio | wall s | runs | agreement |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row.step, row.case, f"{row.reference:.3g}", f"{row.ours:.3g}", row.unit]
        cells += [f"{row.ratio:.3g}×", row.wall, row.runs, row.agreement]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def _hardware() -> str:
    """Processor, cores and memory (Linux)."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((x.split(":")[1].strip() for x in info if x.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def markdown(rows: list[Row], *, command: str, minutes: float) -> str:
    """The whole report."""
    versions = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    libc = " ".join(platform.libc_ver())
    return f"""# Core steps against the published algorithm

- date: {datetime.datetime.now(tz=datetime.UTC).date()}
- command: `{command.strip()}` ({minutes:.0f} minutes)
- hardware: {_hardware()}; one thread, other work on the machine possible
- software: Python {platform.python_version()}, {versions}, {libc}

"Published" is `benchmarks/reference.py`: the algorithm of SeeKing's public code, reimplemented, on
the same inputs in the same process. Its sensitivity is one backward pass a sample with logits for
every token, its window search a Python loop over a float32 summed-area table, its SVD
`torch.linalg.svd(full_matrices=True)` in float32 (the square U is part of what is published; the
thin SVD would be a faster baseline wherever a matrix is not square). In rows "SVD, svds" and "SVD,
svd_lowrank" it is `scipy.sparse.linalg.svds` in float64 and `torch.svd_lowrank` instead.

Seconds are CPU seconds: medians over "runs" (published / ours) calls, where a side is not called
again once it has taken 5 seconds; the pairs run once, so that the parts add up. Weights are
N(0, 0.02), spiked ones with 24 directions on top; samples are random tokens (32 of them: 5,479
tokens, 2,569 with loss). Product errors (published / ours) are ‖P − P_best‖ / ‖P_best‖ at the same
rank, against a float64 computation. Peak memory is the growth of the resident set above weights or
map, each side in a process of its own; for the sensitivity with the two longest samples. It depends
on the C library too: freed blocks that the library keeps count as resident. In the row with
MALLOC_MMAP_THRESHOLD_ they are returned to the system at once, which costs time for new pages.

## Goals

{goals(rows)}

## Results

{_results(rows)}
"""
