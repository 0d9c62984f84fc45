"""One cell's part of a comparison's page, read from what its steps stored."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from artifacts.names import StepKey
from artifacts.records import Record
from paraknow_core.evaluation.items import Item, read_items
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Architecture
from paraknow_core.report.page import collect
from paraknow_core.report.page.data import Pair
from paraknow_core.statistics.judge import Judgement
from tasks.acquire_model import load_architecture
from tasks.comparison_parts.benchmarks import benchmark_rows
from tasks.comparison_parts.compute import Compute, compute_of, compute_told
from tasks.comparison_parts.config import (
    CellReport,
    ComparisonConfig,
    arm_role,
    cell_role,
)
from tasks.comparison_parts.looks import looks_of
from tasks.comparison_parts.primary import primary_in
from tasks.comparison_parts.proof import ItemsOf, untrained_of
from tasks.comparison_parts.told import failed_pair, told_of
from tasks.engine.json_files import read_json
from tasks.engine.step import Job


def pair_of(job: Job[ComparisonConfig], number: int) -> tuple[Pair, Judgement]:
    """Put together what the page shows of one cell, and what its numbers allow to be said."""
    cell = job.config.cells[number]
    shared = _Shared(job, number)
    if cell.failure:
        return failed_pair(cell, cell.failure, "Nothing was compared"), Judgement()
    items = {arm.name: _items(job, number, place) for place, arm in enumerate(cell.arms)}
    told, judgement = told_of(cell, list(items.values()), job.config, primary_in(job, number))
    arms = [(arm, _logs(job, number, place)) for place, arm in enumerate(cell.arms)]
    took = shared.compute()
    pair = replace(
        told,
        teacher=_model(shared.architecture("teacher")),
        student=_model(shared.architecture("student")),
        notes=(*told.notes, *compute_told(cell, took), *shared.contamination()),
        scores=tuple(
            replace(
                score,
                flops=took[score.method].flops,
                teacher_flops=took[score.method].teacher_flops,
                seconds=took[score.method].seconds,
            )
            for score in told.scores
        ),
        curves=tuple(chain.from_iterable(collect.curves_of(a.name, logs) for a, logs in arms)),
        trials=tuple(
            chain.from_iterable(
                collect.trials_of(a.name, dict(a.trials), chosen=a.rate) for a in cell.arms
            )
        ),
        predictions=_predictions(items, shared.items("vanilla")),
        untrained=untrained_of(job.config, number, items_of(job)),
        benchmarks=benchmark_rows(job, number),
        **looks_of(job, number),
        **shared.pictures(_transfer(cell)),
        **shared.records(),
    )
    return pair, judgement


def items_of(job: Job[ComparisonConfig]) -> ItemsOf:
    """Return what reads the items of the evaluation with a role."""

    def items(role: str) -> Sequence[Item] | None:
        folder = job.inputs.get(role)
        return None if folder is None else read_items(folder / "items.parquet")

    return items


class _Shared:
    """What all methods of a cell share, as far as it was computed."""

    def __init__(self, job: Job[ComparisonConfig], number: int) -> None:
        self._job, self._number = job, number

    def folder(self, what: str) -> Path | None:
        return self._job.inputs.get(cell_role(self._number, what))

    def architecture(self, who: str) -> Architecture | None:
        folder = self.folder(who)
        return load_architecture(folder) if folder else None

    def items(self, what: str) -> list[Item]:
        return list(items_of(self._job)(cell_role(self._number, what)) or ())

    def contamination(self) -> tuple[str, ...]:
        folder = self.folder("overlap")
        return tuple(read_json(folder / "overlap.json")["lines"]) if folder else ()

    def pictures(self, transfer: int) -> dict[str, Any]:
        """Sensitivity, windows and spectra of the transfer, and the likeness of the layers."""
        found: dict[str, Any] = {}
        scores, layers, windows, factors = (
            self._job.inputs.get(arm_role(self._number, transfer, what))
            for what in ("scores", "layers", "windows", "factors")
        )
        teacher, student = self.architecture("teacher"), self.architecture("student")
        if scores and layers:
            table, chosen = read_json(scores / "layer_sums.json"), read_json(layers / "layers.json")
            found["sensitivity"] = collect.sensitivity_of(table, chosen)
        if windows and teacher:
            found["windows"] = collect.windows_of(read_json(windows / "windows.json"), teacher)
        if factors and student:
            found["spectra"] = collect.spectra_of(factors, student)
        if (likeness := self.folder("likeness")) is not None:
            found["cka"] = collect.cka_of(read_json(likeness / "likeness.json"))
        return found

    def compute(self) -> dict[str, Compute]:
        """What each method's trainings took."""
        return compute_of(
            self._job.run.open_store(),
            {arm.name: arm.adapters for arm in self._job.config.cells[self._number].arms},
            teacher=self.architecture("teacher"),
            student=self.architecture("student"),
        )

    def records(self) -> dict[str, Any]:
        """What the cell's steps cost, and the stored results behind its numbers."""
        store = self._job.run.open_store()
        found = [
            (label, record, reused)
            for label, key, reused in self._job.config.cells[self._number].results
            if (record := store.lookup_record(StepKey(key))) is not None
        ]
        costs = collect.costs_of(
            (record.step, record.key, _seconds(record), reused) for _, record, reused in found
        )
        origins = tuple(collect.origin_of(label, record.as_json()) for label, record, _ in found)
        return {"costs": costs, "origins": origins}


def _seconds(record: Record) -> float:
    return float(str(record.provenance.get("seconds", 0.0)))


def _model(architecture: Architecture | None) -> str:
    if architecture is None:
        return ""
    millions = architecture.num_parameters / 1e6
    return f"{architecture.model_type}, {millions:,.3g} M parameters"


def _items(job: Job[ComparisonConfig], number: int, place: int) -> dict[int, Sequence[Item]]:
    seeds = job.config.cells[number].arms[place].seeds
    folders = {s: job.inputs[arm_role(number, place, "items", s)] for s in seeds}
    return {seed: read_items(folder / "items.parquet") for seed, folder in folders.items()}


def _logs(job: Job[ComparisonConfig], number: int, place: int) -> list[list[dict[str, float]]]:
    seeds = job.config.cells[number].arms[place].seeds
    folders = [job.inputs[arm_role(number, place, "adapter", seed)] for seed in seeds]
    return [collect.read_log(folder / "training_log.jsonl") for folder in folders]


def _predictions(items: Mapping[str, Mapping[int, Sequence[Item]]], vanilla: list[Item]) -> Any:
    """Of the first seed that every method has, those without any result left aside."""
    items = {name: seeds for name, seeds in items.items() if seeds}
    shared = set.intersection(*(set(seeds) for seeds in items.values())) if items else set()
    if not shared:
        return ()
    seed = min(shared)
    untouched = {"untouched student": vanilla} if vanilla else {}
    return collect.predictions_of(untouched | {name: of[seed] for name, of in items.items()})


def _transfer(cell: CellReport) -> int:
    """Place of the method that the verdict is about; −1 without one."""
    return next(
        (place for place, arm in enumerate(cell.arms) if METHODS[arm.start].is_transfer), -1
    )
