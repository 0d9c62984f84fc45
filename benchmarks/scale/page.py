"""The page of scale: the words of ``docs/scale/page.md.jinja``, and numbers that nobody wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artifacts.disk.sizes import size_text
from benchmarks.scale.assumptions import Assumptions
from benchmarks.scale.costs import unit
from benchmarks.scale.counts import CONTROLS, METHODS, RATES, SAMPLE, SEEDS, Law, Size
from benchmarks.scale.requests import FILES, Requests, count_requests
from benchmarks.words import words
from paraknow_core.statistics.rate_search import RateSearch

FOLDER = Path(__file__).parents[2] / "docs" / "scale"
WHOLE = Size(teachers=100, students=1000, shapes=10, tasks=20)
SHARDS = 256
TRIALS = len(RateSearch(RATES, (1000,)).without_surprise())
"""Of each method: its grid of learning rates, and those beside the best."""
LISTED = 1000
"""Names that a bucket returns for one request."""
RECORDS_A_SECOND = 2500
"""That ``store ls``, ``du`` and ``gc`` read: 100,000 took 35 to 50 s (docs/store.md)."""


@dataclass(frozen=True)
class Total:
    """What an undertaking takes."""

    cells: int
    steps: int
    asked: int
    gpu_hours: float
    cpu_hours: float
    disk_bytes: float
    puts: float
    gets: float
    prefect_bytes: float
    prefect_events: float
    planner_hours: float
    planner_bytes: float
    gpu_dollars: float
    month_dollars: float
    request_dollars: float


def total(law: Law, size: Size, a: Assumptions, requests: Requests) -> Total:
    """Add up what all steps of an undertaking of this size take."""
    counts = {kind: each * size.of(kind[1]) for kind, each in law.distinct.items()}
    steps, asked = sum(counts.values()), round(law.asked * size.cells)
    units = {kind: unit(*kind, a) for kind in counts}
    gpu = sum(counts[kind] * units[kind].gpu_seconds for kind in counts) / 3600
    disk = sum(counts[kind] * (units[kind].disk_bytes + a.record_bytes) for kind in counts)
    puts = float(steps * requests.computed["put"] + asked * requests.lookup["put"])
    gets = float(steps * requests.computed["get"] + asked * requests.lookup["get"])
    return Total(
        cells=size.cells,
        steps=steps,
        asked=asked,
        gpu_hours=gpu,
        cpu_hours=sum(counts[kind] * units[kind].cpu_seconds for kind in counts) / 3600,
        disk_bytes=disk,
        puts=puts,
        gets=gets,
        prefect_bytes=asked * a.prefect_bytes,
        prefect_events=asked * a.prefect_events,
        planner_hours=a.planner_seconds * size.cells / 1000 / 3600,
        planner_bytes=a.planner_bytes * size.cells / 1000,
        gpu_dollars=gpu * a.gpu_price,
        month_dollars=disk / 1e9 * a.storage_price,
        request_dollars=(puts * a.put_price + gets * a.get_price) / 1000,
    )


def page(laws: Mapping[str, Law], a: Assumptions) -> str:
    """Fill in the page's words with its numbers.

    Args:
        laws: ``moved`` and ``compared``.
        a: unit costs and prices.
    """
    requests = count_requests()
    totals = {name: total(law, WHOLE, a, requests) for name, law in laws.items()}
    page_words = words(FOLDER)
    page_words.filters |= {"number": number, "size": lambda n: size_text(round(n)), "plain": plain}
    return page_words.get_template("page.md.jinja").render(
        a=a,
        assumptions=a.rows(),
        size=WHOLE,
        sample=SAMPLE,
        methods=(*METHODS, *CONTROLS),
        rates=len(RATES),
        trials=TRIALS,
        seeds=len(SEEDS),
        files=FILES,
        laws=laws,
        totals=totals,
        steps=steps_of(laws, a),
        requests=requests,
        shards=SHARDS,
        listed=LISTED,
        records_a_second=RECORDS_A_SECOND,
    )


def steps_of(laws: Mapping[str, Law], a: Assumptions) -> list[dict[str, object]]:
    """Return a row for each kind of step and what shares it, with counts of both undertakings."""
    kinds = sorted({kind for law in laws.values() for kind in law.distinct})
    return [
        {
            "step": step,
            "shared": " × ".join(shared) or "all",
            **{
                name: law.distinct.get((step, shared), 0) * WHOLE.of(shared)
                for name, law in laws.items()
            },
            **{f"{name}_each": law.distinct.get((step, shared), 0) for name, law in laws.items()},
            "unit": unit(step, shared, a),
        }
        for step, shared in kinds
    ]


def number(value: float) -> str:
    """Write a number so that a person takes it in: three digits, and thousands apart."""
    if value == 0:
        return "0"
    if abs(value) < 10:
        return f"{value:.2g}"
    digits = len(str(int(abs(value))))
    return f"{round(value, 3 - digits):,.0f}" if digits > 3 else f"{value:.0f}"


def plain(value: float) -> str:
    """Write an assumption as it is given."""
    return f"{value:,.0f}" if 1000 <= value < 1e6 else f"{value:g}"
