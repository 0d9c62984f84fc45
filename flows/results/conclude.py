"""What a comparison ends with: its rows in the data set of results, and its report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from artifacts.names import StepKey
from artifacts.store import Store
from flows.config.compare import CompareConfig
from flows.graph.arm import ArmOutcome, SeedRun, reason_of
from flows.graph.cell import CellOutcome
from flows.graph.runner import Handle
from flows.results.dataset import BENCHMARKS, append, new_run, put_page, results_folder
from flows.results.verdicts import changed, earlier_verdicts, put_verdicts
from paraknow_core.evaluation.benchmarks.scores import read_scores, score_name
from paraknow_core.evaluation.metrics import METRICS
from tasks.comparison import PAGE, SUMMARY
from tasks.engine.progress import logger
from tasks.engine.ref import Ref, folder_of


class CompareResult(BaseModel):
    """What a comparison gave."""

    model_config = ConfigDict(frozen=True)

    name: str
    run: str
    results: int
    """Seeds of methods, on all pairs and tasks."""
    failed: int
    diverged: int = 0
    """Seeds whose training diverged, which is an outcome and no failure."""
    reasons: list[str]
    """Why seeds have no result, each once."""
    report_failure: str = ""
    """Why there is no page; the rows are there."""
    computed: int
    """Distinct steps that this run computed."""
    reused: int
    """Distinct steps that were in the store."""
    verdicts: dict[str, str]
    """Pair and task → the sentence that the numbers allow."""
    before: dict[str, str] = {}
    """Pair and task → what the last run said, where that was something else."""
    rows: str
    """The run's file in the data set of results."""
    page: str
    """The page, an ordinary file next to the rows; empty if the report failed."""
    summary: str
    """The same as Markdown: verdicts and tables."""


def conclude(
    config: CompareConfig, outcomes: Sequence[CellOutcome], report: Callable[[], Handle]
) -> CompareResult:
    """Add the run's rows to the results, draw the page, and say what came of it.

    The rows come first: what was measured is kept, whatever becomes of its report.

    Args:
        config: of the comparison.
        outcomes: what came of every cell.
        report: draws the report, or finds it drawn.
    """
    store = config.run.open_store()
    run, now = new_run(), datetime.now(UTC)
    rows = [row | {"time": now} for cell in outcomes for row in _rows(config, cell, store)]
    file = append(results_folder(store.root), config.name, run, rows)
    for cell in outcomes:
        if cell.verdicts.note:
            logger.warning("%s on %s: %s", cell.pair.name, cell.task.name, cell.verdicts.note)
    drawn: list[_Drawn] = []
    failure = reason_of(lambda: drawn.append(_draw(config, report, run)))
    shown = drawn[0] if drawn else _Drawn()
    before = _keep_verdicts(results_folder(store.root), config.name, run, shown.verdicts)
    refs = [*shown.refs, *(ref for cell in outcomes for ref in _refs(cell))]
    computed = {ref.key for ref in refs if not ref.cached}
    reasons = sorted({str(row["reason"]) for row in rows if row["status"] != "ok"})
    return CompareResult(
        name=config.name,
        run=run,
        results=len(rows),
        failed=sum(row["status"] == "failed" for row in rows),
        diverged=sum(row["status"] == "diverged" for row in rows),
        reasons=reasons,
        report_failure=failure,
        computed=len(computed),
        reused=len({ref.key for ref in refs} - computed),
        verdicts=shown.verdicts,
        before=before,
        rows=str(file),
        page=shown.page,
        summary=shown.summary,
    )


@dataclass(frozen=True)
class _Drawn:
    """The report of a run, as far as there is one."""

    refs: tuple[Ref, ...] = ()
    verdicts: dict[str, str] = field(default_factory=dict)
    page: str = ""
    summary: str = ""


def _draw(config: CompareConfig, report: Callable[[], Handle], run: str) -> _Drawn:
    store = config.run.open_store()
    drawn = report().ref
    assert drawn is not None  # noqa: S101 - it has run
    facts = store.lookup(StepKey(drawn.key))
    pages, drawn_in = results_folder(store.root), folder_of(store, drawn)
    page, text = (put_page(pages, config.name, run, drawn_in / name) for name in (PAGE, SUMMARY))
    verdicts = {name: str(said) for name, said in facts.facts.items()} if facts else {}
    return _Drawn((drawn,), verdicts, str(page), str(text))


def _keep_verdicts(
    folder: Path, comparison: str, run: str, verdicts: Mapping[str, str]
) -> dict[str, str]:
    """Keep the verdicts for the next run; returns those of the last run that said other things."""
    if not verdicts:
        return {}
    before = changed(earlier_verdicts(folder, comparison), verdicts)
    put_verdicts(folder, comparison, run, verdicts)
    return before


def _refs(cell: CellOutcome) -> Iterator[Ref]:
    yield from cell.refs
    for arm in cell.arms:
        yield from arm.refs


def _rows(config: CompareConfig, cell: CellOutcome, store: Store) -> Iterator[dict[str, Any]]:
    controls = {arm.name for arm in config.controls}
    shared = {
        "pair": cell.pair.name,
        "task": cell.task.name,
        "teacher": cell.pair.teacher.model or "trained from scratch",
        "student": cell.pair.student.model or "trained from scratch",
    }
    known = {arm.name: arm for arm in cell.arms}
    for wanted in config.arms:
        arm = known.get(wanted.name) or ArmOutcome(wanted.name, wanted.start, reason=cell.reason)
        for seed in config.seeds:
            run = next((run for run in arm.runs if run.seed == seed), None)
            run = run or SeedRun(seed, reason=arm.reason, diverged=arm.diverged)
            yield {
                **shared,
                "method": arm.name,
                "start": arm.start,
                "control": arm.name in controls,
                "seed": seed,
                "learning_rate": arm.rate,
                "primary": cell.verdicts.primary(config.evaluation(cell.task)),
                "status": "failed" if run.reason else "diverged" if run.diverged else "ok",
                "reason": run.reason or run.diverged,
                **_measured(run, store),
                BENCHMARKS: _scores(cell, run, store),
            }


def _measured(run: SeedRun, store: Store) -> dict[str, Any]:
    trained, measured = _record(run.adapter, store), _record(run.measured, store)
    metrics: Mapping[str, Any] = measured.facts if measured else {}
    seconds = [float(str(r.provenance.get("seconds", 0))) for r in (trained, measured) if r]
    return {
        "validation_nll": trained.facts.get("validation_nll") if trained else None,
        **{name: metrics.get(name) for name in METRICS},
        "items": metrics.get("items"),
        "adapter_key": trained.key if trained else "",
        "evaluation_key": measured.key if measured else "",
        "seconds": sum(seconds),
    }


def _scores(cell: CellOutcome, run: SeedRun, store: Store) -> dict[str, float]:
    """What a seed scores on each benchmark, without the parts of groups."""
    found: dict[str, float] = {}
    for number, handle in run.scored.items():
        if handle.known is None:
            continue
        title = cell.benchmarks[number].title
        for score in read_scores(folder_of(store, handle.known)):
            if score.is_root and score.value is not None:
                found[score_name(title, score)] = score.value
    return found


def _record(handle: Handle | None, store: Store) -> Any:
    ref = handle.known if handle else None
    return store.lookup(StepKey(ref.key)) if ref else None
