"""The report of a comparison: what every cell found, judged, as one page; the UI shows it too."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from paraknow_core.errors import ParaknowError
from tasks.comparison_parts.config import ComparisonConfig
from tasks.engine.json_files import write_json
from tasks.engine.progress import in_task_run, logger
from tasks.engine.ref import Ref
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

if TYPE_CHECKING:
    from paraknow_core.report.page.data import Comparison, Pair
    from paraknow_core.statistics.judge import Judgement

ALL_CELLS = "all cells together"
"""Under this name the facts have the sentence about several cells."""
PAGE, SUMMARY, DATA, FOREST = "comparison.html", "summary.md", "comparison.json", "forest.png"


def _compute(job: Job[ComparisonConfig]) -> Facts:
    """Judge every cell, and draw the page, its summary and its picture.

    A pair that cannot be judged, or a picture that cannot be drawn, costs only itself.
    """
    from paraknow_core.divergence import RULE
    from paraknow_core.report.comparison_markdown import as_markdown
    from paraknow_core.report.page.data import Comparison
    from paraknow_core.report.page.render import render_page
    from paraknow_core.statistics.whole import whole_sentence
    from tasks.comparison_parts.cell import items_of
    from tasks.comparison_parts.design import design_of, methods_of
    from tasks.comparison_parts.proof import orders_of

    config, pairs, judged = job.config, [], {}
    for number, cell in enumerate(config.cells):
        name = f"{cell.pair} on {cell.task}"
        job.progress(number, len(config.cells), name)
        pair, judged[name] = _judged(job, number)
        pairs.append(pair)
    summary = whole_sentence(judged)
    has_diverged = any(arm.diverged for cell in config.cells for arm in cell.arms)
    comparison = Comparison(
        title=config.name,
        created=config.created,
        summary=summary,
        methods=methods_of(config),
        pairs=tuple(pairs),
        orders=orders_of(config, items_of(job)),
        design=design_of(config),
        caveats=(*config.caveats, RULE) if has_diverged else config.caveats,
    )
    if not_drawn := _draw_forest(comparison, job.out / FOREST):
        comparison = replace(comparison, caveats=(*comparison.caveats, not_drawn))
    write_json(job.out / DATA, comparison.to_json())
    page = render_page(comparison, tell=logger.warning)
    (job.out / PAGE).write_text(page, encoding="utf-8")
    (job.out / SUMMARY).write_text(as_markdown(comparison), encoding="utf-8")
    whole = {ALL_CELLS: summary} if summary else {}
    return {f"{pair.name} on {pair.task}": pair.verdict for pair in pairs} | whole


def _judged(job: Job[ComparisonConfig], number: int) -> "tuple[Pair, Judgement]":
    from paraknow_core.statistics.judge import Judgement
    from tasks.comparison_parts.cell import pair_of
    from tasks.comparison_parts.told import failed_pair

    cell = job.config.cells[number]
    try:
        return pair_of(job, number)
    except (ParaknowError, ArithmeticError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        logger.warning("%s on %s cannot be judged: %s", cell.pair, cell.task, reason)
        return failed_pair(cell, reason, "Its results cannot be judged"), Judgement()


def _draw_forest(comparison: "Comparison", path: Path) -> str:
    """Draw the picture of all pairs; returns why not, in a sentence for the page."""
    from paraknow_core.report.pictures import forest_plot

    try:
        forest_plot(comparison, path)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the numbers are worth a page
        path.unlink(missing_ok=True)
        told = f"The picture {FOREST} could not be drawn: {type(error).__name__}: {error}"
        logger.warning(told)
        return told
    return ""


def _show(_ref: Ref, folder: Path) -> None:
    """Put the verdicts, the summary and the picture into the Prefect UI."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    from paraknow_core.report.comparison_markdown import table_of
    from tasks.engine.json_files import read_json

    if not in_task_run():
        return
    create_table_artifact(
        table_of(read_json(folder / DATA)), key="comparison-table", description="Every contrast"
    )
    text = (folder / SUMMARY).read_text(encoding="utf-8")
    create_markdown_artifact(text, key="comparison-summary", description="What works")
    picture = ""
    if (folder / FOREST).is_file():
        code = base64.b64encode((folder / FOREST).read_bytes()).decode()
        picture = f"![Paired differences with 95 % intervals](data:image/png;base64,{code})\n\n"
    create_markdown_artifact(
        f"{picture}The whole page: `{folder / PAGE}`\n",
        key="comparison-forest",
        description="Paired differences",
    )


comparison = Step(
    name="comparison", stage=Stage.REPORT, version=1, compute=_compute, on_result=_show
)
