"""What the figures of scale rest on besides the planner: each with its unit, source and date."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields
from dataclasses import field as _field
from typing import Any


def _given(value: float, unit: str, source: str) -> Any:
    return _field(default=value, metadata={"unit": unit, "source": source})


@dataclass(frozen=True)
class Assumptions:
    """Unit costs and prices; every one is an option of the command."""

    gpu_flops: float = _given(
        7.9e14, "operations/s", "bfloat16 products of 8192², measured on an H200, 2026-11"
    )
    gpu_bandwidth: float = _given(4.8e12, "bytes/s", "an H200's data sheet")
    cpu_flops64: float = _given(
        7.2e11, "operations/s", "45 GFLOP/s a core, measured on two, times the 16 beside a GPU"
    )
    step_overhead: float = _given(
        10.0, "s", "a guess: a process's start, loading 1B weights, publishing; to be measured"
    )
    light_overhead: float = _given(
        1.0, "s", "a guess: the same for steps without a GPU, in a process that is there already"
    )
    hash_rate: float = _given(2.6e9, "bytes/s", "blake3 on a core, the lower end, 2026-11")
    planner_seconds: float = _given(
        51.0, "CPU s/1,000 cells", "`--measure` on two cores, 2026-11-30"
    )
    planner_bytes: float = _given(1.5e8, "bytes/1,000 cells", "the same")
    record_bytes: float = _given(
        2_500.0, "bytes", "mean of 2,000 records of the findings, 2026-11-30"
    )
    small_file_bytes: float = _given(
        50_000.0, "bytes", "outputs without an estimate: layers, tables, items; rounded up"
    )
    prefect_bytes: float = _given(
        39_300.0, "bytes/task", "295 MB of SQLite for the 7,510 tasks of the findings, 2026-11-30"
    )
    prefect_events: float = _given(
        4.4, "events/task", "32,807 events of the same; they go after their retention"
    )
    prefect_tasks_a_second: float = _given(
        20.0, "tasks/s", "a guess for one server on PostgreSQL; SQLite begins to refuse below that"
    )
    gpu_price: float = _given(
        4.0, "$/h", "on-demand list prices of specialised clouds for an H200, $3.50–4.50, May 2026"
    )
    storage_price: float = _given(0.023, "$/GB/month", "S3 Standard, us-east-1, list price, 2026")
    put_price: float = _given(0.005, "$/1,000", "S3 PUT and LIST, us-east-1, list price, 2026")
    get_price: float = _given(0.0004, "$/1,000", "S3 GET and HEAD, us-east-1, list price, 2026")
    gpus: float = _given(64.0, "GPUs", "eight machines, to turn hours of a GPU into days")

    def rows(self) -> list[tuple[str, float, str, str]]:
        """Return name, value, unit and source of each."""
        return [
            (f.name, getattr(self, f.name), f.metadata["unit"], f.metadata["source"])
            for f in fields(self)
        ]


def parser() -> argparse.ArgumentParser:
    """Return the command's options: one for each assumption."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    made.add_argument("--measure", action="store_true", help="measure the planner here; no page")
    for each in fields(Assumptions):
        option = f"--{each.name.replace('_', '-')}"
        told = f"{each.metadata['unit']}; {each.metadata['source']}".replace("%", "%%")
        made.add_argument(option, type=float, default=each.default, metavar="N", help=told)
    return made


def parsed(words: Sequence[str] | None = None) -> tuple[Assumptions, bool]:
    """Return the assumptions of a command line, and whether the planner is to be measured."""
    given = vars(parser().parse_args(words))
    measure = bool(given.pop("measure"))
    return Assumptions(**given), measure
