"""What the report of a comparison reads: each result under the name of its place."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from flows.config.compare import ArmConfig, CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.arm import ArmOutcome, RateTrial
from flows.graph.cell import CellOutcome
from flows.graph.runner import Handle, Runner
from paraknow_core.methods import VANILLA
from paraknow_core.statistics.arm_result import Loss
from tasks.comparison import comparison
from tasks.comparison_parts.config import (
    ALL,
    ArmReport,
    CellReport,
    ComparisonConfig,
    arm_role,
    cell_role,
    seed_name,
)
from tasks.finetune import FinetuneConfig
from tasks.harness.reported import benchmark_role


def start_report(config: CompareConfig, outcomes: Sequence[CellOutcome], do: Runner) -> Handle:
    """Run, or plan, the report of what came of every cell."""
    return do(comparison, report_of(config, outcomes), label="report", **inputs_of(outcomes))


def report_of(config: CompareConfig, outcomes: Sequence[CellOutcome]) -> ComparisonConfig:
    """Say what every cell did; the numbers are in the report's inputs."""
    cells = tuple(_cell(outcome, config) for outcome in outcomes)
    return ComparisonConfig(
        name=config.name,
        cells=cells,
        wanted_seeds=config.seeds,
        words=5,
        proof=config.proof,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def inputs_of(outcomes: Sequence[CellOutcome]) -> dict[str, Handle]:
    """Name every result that the report reads."""
    return {
        role: handle
        for number, outcome in enumerate(outcomes)
        for role, handle in _inputs(number, outcome)
        if handle is not None
    }


def _inputs(number: int, cell: CellOutcome) -> Iterator[tuple[str, Handle | None]]:
    if cell.shared is not None:
        yield cell_role(number, "teacher"), cell.shared.teacher
        yield cell_role(number, "student"), cell.shared.student
    yield cell_role(number, "vanilla"), cell.vanilla
    for what, handle in cell.looks.items():
        yield cell_role(number, what), handle
    for which, handle in cell.scored.items():
        yield cell_role(number, benchmark_role(which, VANILLA)), handle
    for place, arm in enumerate(cell.arms):
        for what, handle in arm.looks.items():
            yield arm_role(number, place, what), handle
        for run in arm.runs:
            yield arm_role(number, place, "adapter", run.seed), run.adapter
            yield arm_role(number, place, "items", run.seed), run.measured
            yield arm_role(number, place, "untrained", run.seed), run.untrained
            for which, handle in run.scored.items():
                yield arm_role(number, place, benchmark_role(which, "score"), run.seed), handle


def _cell(cell: CellOutcome, config: CompareConfig) -> CellReport:
    evaluation = config.evaluation(cell.task)
    how = {a.name: config.transfer(cell.pair, cell.task, a) for a in config.arms if cell.arms}
    refs = [*cell.refs, *(ref for arm in cell.arms for ref in arm.refs)]
    first = {ref.key: ref for ref in reversed(refs)}
    return CellReport(
        pair=cell.pair.name,
        task=cell.task.name,
        arms=tuple(_arm(arm, how[arm.name]) for arm in cell.arms),
        failure=cell.reason,
        primary=(primary := cell.verdicts.primary(evaluation)),
        metrics=cell.verdicts.metrics(evaluation),
        margin=config.margins.get(primary),
        benchmarks=tuple(which.title for which in cell.benchmarks),
        judging=cell.verdicts.note,
        results=tuple((ref.label, ref.key, ref.cached) for ref in reversed(first.values())),
    )


def loss_of(config: CompareConfig, arm: ArmConfig) -> Loss:
    """Whether a method learns from a teacher's outputs, by its own settings or the shared ones."""
    told = _training(config, arm).get("distillation")
    return "answers" if told is None else "distillation"


def epochs_of(config: CompareConfig, arm: ArmConfig) -> int:
    """How often a method sees the training rows, by its own settings or the shared ones."""
    return int(_training(config, arm).get("epochs", FinetuneConfig().epochs))


def _training(config: CompareConfig, arm: ArmConfig) -> dict[str, Any]:
    return config.settings.get("finetune", {}) | arm.set.get("finetune", {})


def _arm(arm: ArmOutcome, settings: TransferConfig) -> ArmReport:
    losses: dict[float, list[float | None]] = {}
    for trial in arm.trials:
        known = None if trial.diverged else trial.nll
        losses.setdefault(trial.rate, []).append(known)
    failures = {_trial_name(t): t.reason for t in arm.trials if t.reason}
    failures |= {seed_name(run.seed): run.reason for run in arm.runs if run.reason}
    diverged = {_trial_name(t): t.diverged for t in arm.trials if t.diverged}
    diverged |= {seed_name(run.seed): run.diverged for run in arm.runs if run.diverged}
    if arm.look_reason:
        failures["diagnosis"] = arm.look_reason
    failures |= arm.lost_scores
    return ArmReport(
        name=arm.name,
        start=arm.start,
        rate=arm.rate,
        trials=tuple((rate, _mean(values)) for rate, values in losses.items()),
        at_edge=arm.at_edge,
        seeds=tuple(
            run.seed for run in arm.runs if run.measured and not (run.reason or run.diverged)
        ),
        failures=failures | ({ALL: arm.reason} if arm.reason else {}),
        diverged=diverged | ({ALL: arm.diverged} if arm.diverged else {}),
        distillation=settings.finetune.distillation,
        epochs=settings.finetune.epochs,
        by_role=settings.methods_used(arm.start) if settings.by_role else (),
        adapters=tuple(
            ref.key
            for run in arm.runs
            if run.adapter and not run.reason and (ref := run.adapter.ref) is not None
        ),
    )


def _trial_name(trial: RateTrial) -> str:
    return f"learning rate {trial.rate:g}, seed {trial.seed}"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
