"""The report of a comparison: what every cell found, judged, as one page; the UI shows it too."""

import base64
from pathlib import Path

from pydantic import Field

from tasks.files import write_json
from tasks.identity import StepConfig, execution
from tasks.progress import in_task_run
from tasks.refs import Ref
from tasks.step import Facts, Job, Step

PAGE, SUMMARY, DATA, FOREST = "comparison.html", "summary.md", "comparison.json", "forest.png"

CAVEATS = (
    "Intervals over seeds cover other training seeds of these very models and data, not other "
    "models or data.",
    "Each method's learning rate was chosen on the validation split alone; the test split was not "
    "looked at for it.",
    "Only the comparisons of the verdict are corrected for their number (Holm); the others are "
    "exploratory.",
)


class ArmReport(StepConfig):
    """What one method of a cell did, beside what its steps stored."""

    name: str
    start: str
    rate: float | None = None
    trials: tuple[tuple[float, float | None], ...] = ()
    """Learning rate, mean validation loss; None where it failed."""
    at_edge: bool = False
    seeds: tuple[int, ...] = ()
    """Those with a result."""
    failures: dict[str, str] = Field({})
    """Which trial or seed → why it has none."""


class CellReport(StepConfig):
    """One pair on one task."""

    pair: str
    task: str
    arms: tuple[ArmReport, ...] = ()
    failure: str = ""
    """Why none of its methods began."""
    results: tuple[tuple[str, str, bool], ...] = execution(())
    """Label, key, whether it was there already: of every step, in the run that drew the page."""


class ComparisonConfig(StepConfig):
    """What the report is about; its numbers are read from its inputs."""

    name: str
    cells: tuple[CellReport, ...]
    wanted_seeds: tuple[int, ...]
    created: str = execution("")
    """When the page was drawn, ISO time."""


def cell_role(cell: int, what: str) -> str:
    """Name the input that a whole cell has, such as its ``scores``."""
    return f"c{cell}-{what}"


def arm_role(cell: int, arm: int, what: str, seed: int | None = None) -> str:
    """Name the input of one method, or of one of its seeds."""
    return f"c{cell}-a{arm}-{what}" + ("" if seed is None else f"-s{seed}")


def _compute(job: Job[ComparisonConfig]) -> Facts:
    """Judge every cell, and draw the page, its summary and its picture."""
    from paraknow_core.comparison_text import as_markdown
    from paraknow_core.figures import forest_plot
    from paraknow_core.page.data import Comparison
    from paraknow_core.page.render import render_page
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

    from paraknow_core.comparison_text import table_of
    from tasks.files import read_json

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
