"""The report of a comparison: what every cell found, judged, as one page; the UI shows it too."""

import base64
from pathlib import Path

from tasks.comparison_config import CAVEATS, ComparisonConfig
from tasks.engine.json_files import write_json
from tasks.engine.progress import in_task_run
from tasks.engine.ref import Ref
from tasks.engine.step import Facts, Job, Step

PAGE, SUMMARY, DATA, FOREST = "comparison.html", "summary.md", "comparison.json", "forest.png"


def _compute(job: Job[ComparisonConfig]) -> Facts:
    """Judge every cell, and draw the page, its summary and its picture."""
    from paraknow_core.report.comparison_markdown import as_markdown
    from paraknow_core.report.page.data import Comparison
    from paraknow_core.report.page.render import render_page
    from paraknow_core.report.pictures import forest_plot
    from tasks.comparison_pair import design_of, methods_of, pair_of

    config, pairs = job.config, []
    for number, cell in enumerate(config.cells):
        job.progress(number, len(config.cells), f"{cell.pair} on {cell.task}")
        pairs.append(pair_of(job, number))
    comparison = Comparison(
        title=config.name,
        created=config.created,
        methods=methods_of(config),
        pairs=tuple(pairs),
        design=design_of(config),
        caveats=CAVEATS,
    )
    write_json(job.out / DATA, comparison.to_json())
    (job.out / PAGE).write_text(render_page(comparison), encoding="utf-8")
    (job.out / SUMMARY).write_text(as_markdown(comparison), encoding="utf-8")
    forest_plot(comparison, job.out / FOREST)
    return {f"{pair.name} on {pair.task}": pair.verdict for pair in pairs}


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
    picture = base64.b64encode((folder / FOREST).read_bytes()).decode()
    create_markdown_artifact(
        f"![Paired differences with 95 % intervals](data:image/png;base64,{picture})\n\n"
        f"The whole page: `{folder / PAGE}`\n",
        key="comparison-forest",
        description="Paired differences",
    )


comparison = Step(name="comparison", version=1, compute=_compute, on_result=_show)
