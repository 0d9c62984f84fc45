"""What a run gave, as one artifact of its flow run in Prefect's UI: verdict, numbers, places."""

import shlex
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.results.conclude import CompareResult
from paraknow_core.report.comparison_markdown import escaped
from tasks.engine.progress import logger

KEY: Final = "result"
"""Of the artifact; every run has one version of it."""


def show_transfer(config: TransferConfig, steps: Sequence[Any], report: Path | None) -> None:
    """Show what a pair's run gave.

    Args:
        config: its settings.
        steps: as `flows.transfer.StepResult`, in their order.
        report: folder of its report; None: it did not come so far.
    """
    lines = [f"# {escaped(config.name)}", ""]
    if report is not None:
        lines += [(report / "summary.md").read_text(encoding="utf-8"), ""]
    else:
        lines += [f"{len(steps)} steps; the run was not to come as far as a report.", ""]
    lines += list(_adapters(config, steps))
    _show(lines, config, "Verdict, numbers, and where the adapters are")


def show_comparison(config: CompareConfig, result: CompareResult) -> None:
    """Show what a comparison gave."""
    lines = [f"# {escaped(config.name)}", ""]
    for name, said in result.verdicts.items():
        lines += [f"**{escaped(name)}**: {escaped(said)}", ""]
        if name in result.before:
            lines += [f"The last run said: {escaped(result.before[name])}", ""]
    lost = f", {result.diverged} diverged" if result.diverged else ""
    good = result.results - result.failed - result.diverged
    lines.append(f"- {good} of {result.results} results{lost}")
    lines += [f"- no result: {escaped(reason)}" for reason in result.reasons]
    if result.page:
        lines.append(f"- page: [{Path(result.page).name}]({Path(result.page).as_uri()})")
        lines.append(f"- where it is: `{result.page}`")
    if result.report_failure:
        lines.append(f"- no page could be drawn: {escaped(result.report_failure)}")
    lines += [f"- rows: `{result.rows}`", ""]
    _show(lines, config, "Verdicts, and where page and rows are")


def _adapters(config: TransferConfig, steps: Sequence[Any]) -> Iterator[str]:
    """Key, folder and the line that delivers it, of every trained adapter."""
    trained = [step for step in steps if step.step == "finetune"]
    if not trained:
        return
    yield from ("| adapter | key | folder |", "|---|---|---|")
    for step in trained:
        yield f"| {escaped(step.name)} | `{step.key[:16]}` | `{step.folder}` |"
    yield ""
    student = f" --student {shlex.quote(config.student.model)}" if config.student.model else ""
    yield from (
        "An ordinary PEFT folder with a model card:",
        "",
        "```",
        *(f"paraknow deliver {step.key[:16]} DIR{student}" for step in trained),
        "```",
        "",
    )


def _show(lines: Sequence[str], config: BaseModel, description: str) -> None:
    """Make the artifact, with the settings that were given at its end."""
    from prefect.artifacts import create_markdown_artifact

    given = config.model_dump(mode="json", exclude_unset=True)
    settings = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=100)
    # Indented, it is text whatever it holds.
    text = "\n".join([*lines, "## Settings", "", textwrap.indent(settings, "    ")])
    try:
        create_markdown_artifact(text, key=KEY, description=description)
    except Exception as error:  # noqa: BLE001 - the results are there; a view costs only itself
        logger.warning(
            "Prefect's UI does not show the result (%s); it is in the store all the same, and the "
            "same command prints it again.",
            type(error).__name__,
        )
