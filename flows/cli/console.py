"""What a person sees in the terminal: steps as they end, a bar for the one under way, the table."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import ConsoleRenderable
from rich.logging import RichHandler
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from artifacts.disk.sizes import size_text
from flows.cli.hours import hours_told, tell_rates
from flows.planning.planner import PlannedStep, StepsPlan
from flows.planning.transfer import Plan
from flows.terminal import Terminal, markdown
from paraknow_core.printable import shown
from tasks.engine.code.drift import warn
from tasks.engine.progress import logger, ticks

if TYPE_CHECKING:
    from flows.transfer import StepResult, TransferResult


class LogLines(RichHandler):
    """Prints log lines, which quote names and errors of any origin."""

    def render_message(self, record: logging.LogRecord, message: str) -> ConsoleRenderable:
        """Make a line's text ready."""
        return super().render_message(record, shown(message))


class TickHandler(logging.Handler):
    """Draws one bar for each step that reports progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Move the step's bar; a finished one is taken away."""
        tick: Mapping[str, Any] = record.__dict__
        label = tick["label"]
        if label not in self._bars:
            self._bars[label] = self._progress.add_task(shown(label), total=tick["total"], note="")
        bar = self._bars[label]
        self._progress.update(
            bar, completed=tick["done"], total=tick["total"], note=shown(record.getMessage())
        )
        if tick["done"] >= tick["total"]:
            self._progress.remove_task(self._bars.pop(label))


@contextmanager
def watching(console: Terminal) -> Iterator[None]:
    """Show log lines, and on a terminal bars, while steps run."""
    lines = LogLines(
        console=console, show_path=False, show_level=False, log_time_format="%H:%M:%S", markup=False
    )
    if console.is_terminal:  # the bars show it
        lines.addFilter(lambda record: not getattr(record, "is_progress", False))
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        handler = TickHandler(bars)
        logger.addHandler(lines)
        ticks.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(lines)
            ticks.removeHandler(handler)


def show_plan(console: Terminal, plan: Plan) -> None:
    """Print which steps would hit or run, and what they are estimated to need."""
    table = Table("step", "would", "key", "memory", "disk", "tokens", title="Plan: nothing is run")
    for step in plan.steps:
        need = step.estimate
        table.add_row(
            step.label,
            _would(step),
            step.key[:12] or "depends on a step above",
            _bytes(need.memory_bytes),
            _bytes(need.disk_bytes),
            "" if need.tokens is None else f"{need.tokens:,}",
        )
    console.print(table)
    for label, drift in plan.drifted.items():
        console.print(f"{label} drifted: {drift.text()}", soft_wrap=True)
    console.print(
        f"Disk: about {_bytes(plan.disk_bytes)} needed, {_bytes(plan.free_bytes)} free "
        f"in {plan.store}",
        soft_wrap=True,
    )
    if plan.timed and plan.to_run:
        console.print(f"To run: {len(plan.to_run)} steps, {hours_told(plan)}", soft_wrap=True)
        tell_rates(console, plan)
    tell_brought(console, plan)
    tell_lacking(console, plan)
    tell_judging(console, plan)


def tell_judging(console: Terminal, plan: StepsPlan) -> None:
    """Say what a judge would be asked, and what that would cost, if anything."""
    if plan.judging:
        console.print(f"{plan.judging.text()}.", soft_wrap=True)


def tell_brought(console: Terminal, plan: StepsPlan) -> None:
    """Say what a run would bring here from the shared tier, if anything."""
    if plan.brought:
        size = _bytes(sum(step.size for step in plan.brought))
        console.print(
            f"Remote hits: {len(plan.brought)}, of which the run brings {size} here; only their "
            "records were read for this plan",
            soft_wrap=True,
        )


def tell_lacking(console: Terminal, plan: StepsPlan) -> None:
    """Say what is enough for this plan, and not for a run."""
    for lacking in plan.lacking:
        console.print(f"cannot run yet: {lacking}", style="yellow", soft_wrap=True)


def _would(step: PlannedStep) -> str:
    if step.status == "rebuild":
        return "be rebuilt"
    if step.status == "cached":
        hit = "be a remote hit" if step.remote else "be a hit"
        return f"{hit}, drifted" if step.drift else hit
    return "run"


def warn_of_drift(plan: StepsPlan) -> None:
    """Say what the steps would say, where a run of hits needs no steps."""
    for step in plan.steps:
        if step.drift is not None:
            warn(step.label, step.key, step.drift)


def _bytes(count: int | None) -> str:
    return "" if count is None else size_text(count)


def show_result(console: Terminal, result: "TransferResult") -> None:
    """Print every step with its key and artifact, then the report's table and words."""
    table = Table("step", "", "key", "artifact", "seconds")
    for step in result.steps:
        table.add_row(step.name, step.status, step.key[:12], step.artifact[:12], _seconds(step))
    console.print(table)
    for step in result.steps:
        if step.step in ("finetune", "report", "lora"):
            console.print(f"{step.name}: {step.folder}", soft_wrap=True)
    if result.summary is not None:
        from paraknow_core.report.transfer_summary import as_markdown

        console.print()
        console.print(markdown(as_markdown(result.summary)))
        for note in result.summary.get("notes", ()):  # type: ignore[attr-defined]  # JSON
            console.print(note, soft_wrap=True)


def _seconds(step: "StepResult") -> str:
    return f"{step.seconds:.1f}" if step.status == "computed" else f"({step.seconds:.1f} once)"
