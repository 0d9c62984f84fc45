"""``paraknow compare``: many pairs, methods, controls, seeds; one page says what works."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from artifacts.disk.sizes import size_text
from flows.cli.options import Rebuild, Strict
from flows.terminal import Terminal, markdown, say

if TYPE_CHECKING:
    from flows.config.compare import CompareConfig
    from flows.planning.compare import ComparePlan
    from flows.results.conclude import CompareResult

_RUNS_SHOWN = 8


def compare_command(
    *,
    config: Annotated[
        Path, typer.Argument(help="Comparison as YAML, such as configs/compare.yaml.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as slots.cpu=4."),
    ] = None,
    pair: Annotated[
        list[str] | None, typer.Option(help="Only this pair; may be given several times.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Only this task; may be given several times.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would run, be shared or hit; run nothing.")
    ] = False,
    strict: Strict = False,
    rebuild: Rebuild = False,
    json_: Annotated[bool, typer.Option("--json", help="Print plan or result as JSON.")] = False,
) -> None:
    """Compare methods and controls on many pairs and tasks, each at its own learning rate.

    The rate is chosen on validation alone, with as many trials for each method; then every method
    runs the same seeds. A killed comparison goes on where it was: just run it again.

    Examples:
    - `paraknow compare configs/compare.yaml --plan`
    - `paraknow compare configs/compare.yaml --set slots.cpu=4`
    - `paraknow compare configs/paper/main.yaml --pair qwen --task gsm8k --plan`
    """
    began = time.monotonic()
    from flows.config.compare import CompareConfig
    from flows.config.load import drift_overrides, load_config
    from flows.config.narrow import narrowed
    from flows.planning.compare import make_compare_plan
    from flows.planning.rates import rates_here

    overrides = [*(set_ or []), *drift_overrides(strict=strict, rebuild=rebuild)]
    whole = load_config(CompareConfig, config, overrides)
    settings = narrowed(whole, pairs=pair or (), tasks=task or ())
    console = Terminal(stderr=json_)
    planned = make_compare_plan(settings, partial(rates_here, settings) if plan else None)
    if plan:
        say(planned.to_json()) if json_ else show_plan(console, settings, planned)
        planned.check_drift()
        return
    planned.check(settings.budget)
    if planned.runs:
        from flows.fan_out.deployment import check_deployment

        check_deployment(settings.fan_out.deployment)
    _tell_blind_spots(console, planned)
    result = _execute(console, settings, planned)
    if json_:
        say(result.model_dump_json(indent=1))
    else:
        show_result(console, result, seconds=time.monotonic() - began)
    if result.failed or result.report_failure:
        raise typer.Exit(1)


def _execute(
    console: Terminal, settings: "CompareConfig", planned: "ComparePlan"
) -> "CompareResult":
    from flows.cli.console import watching
    from flows.cli.hits import goes_without_server

    if goes_without_server(console, planned):
        from flows.results.conclude import conclude

        return conclude(settings, planned.outcomes, planned.stored_report)
    from flows.compare import compare, finished
    from flows.server.server import ensure_server

    ensure_server()
    with watching(console):
        return finished(compare(settings, return_state=True))


def show_plan(console: Terminal, settings: "CompareConfig", plan: "ComparePlan") -> None:
    """Print the distinct steps by kind, and what they need."""
    from flows.cli.console import tell_brought, tell_judging, tell_lacking
    from flows.cli.hours import hours_told, tell_rates

    table = Table(title="Nothing is run", box=None, pad_edge=False)
    for name in ("step", "asked", "distinct", "hits", "to run", "time", "memory", "disk"):
        table.add_column(
            name, justify="left" if name == "step" else "right", no_wrap=name != "time"
        )
    for row in plan.table():
        table.add_row(
            row["step"],
            *(str(row[name]) for name in ("asked", "distinct", "hits", "run")),
            _time(row),
            size_text(row["memory_bytes"]) if row["memory_bytes"] else "",
            size_text(row["disk_bytes"]) if row["run"] else "",
        )
    console.print(table)
    where = f"in {plan.slots} slots"
    console.print(
        f"To run: {len(plan.to_run)} of {len(plan.steps)} distinct steps, asked for "
        f"{plan.asked} times; {hours_told(plan, where)}; {_needs(plan)}",
        soft_wrap=True,
    )
    tell_rates(console, plan)
    if plan.more_trials:
        console.print(
            f"At most {plan.more_trials} more trainings, where a best learning rate lies at an end "
            "of its grid (tuning.extensions)",
            soft_wrap=True,
        )
    tell_brought(console, plan)
    tell_lacking(console, plan)
    tell_judging(console, plan)
    _tell_runs(console, settings, plan)
    for label, drift in plan.drifted.items():
        console.print(f"{label} drifted: {drift.text()}", soft_wrap=True)
    for failure in plan.failures:
        console.print(f"cannot run: {failure}", style="yellow", soft_wrap=True)
    for told in plan.visible():
        console.print(told, soft_wrap=True)
    _tell_blind_spots(console, plan)


def _needs(plan: "ComparePlan") -> str:
    free = f"{size_text(plan.free_bytes)} free in {plan.store}"
    if plan.to_run and not (plan.memory_bytes or plan.disk_bytes):
        return (
            "what they need is not known before the sizes of their models are: a folder with a "
            f"model's config.json and tokenizer is enough for a plan; {free}"
        )
    here = f", {size_text(plan.disk_here)} of it here," if plan.stored_elsewhere else ""
    return (
        f"the largest needs about {size_text(plan.memory_bytes)} of memory; disk about "
        f"{size_text(plan.disk_bytes)}{here} of {free}"
    )


def _tell_runs(console: Terminal, settings: "CompareConfig", plan: "ComparePlan") -> None:
    """Say what would be computed by runs of a deployment."""
    if plan.runs is None:
        return
    fan_out, shown = settings.fan_out, ", ".join(plan.runs[:_RUNS_SHOWN])
    more = f" and {len(plan.runs) - _RUNS_SHOWN} more" if len(plan.runs) > _RUNS_SHOWN else ""
    console.print(
        f"Fan out: {len(plan.runs)} runs of {fan_out.deployment}, one for each {fan_out.by} that "
        f"is not stored, at most {fan_out.in_flight} at once{': ' if shown else ''}{shown}{more}",
        soft_wrap=True,
    )


def _tell_blind_spots(console: Terminal, plan: "ComparePlan") -> None:
    """Say before anything runs what it could never show."""
    for told in plan.blind_spots:
        console.print(told, style="yellow", soft_wrap=True)


def _time(row: "Mapping[str, Any]") -> str:
    from flows.cli.hours import time_text

    if not row["run"]:
        return ""
    if row["untimed"] == row["run"]:
        return "unknown"
    more = f", {row['untimed']} unknown" if row["untimed"] else ""
    return time_text(row["seconds"], about=bool(row["estimated"])) + more


def show_result(console: Terminal, result: "CompareResult", *, seconds: float) -> None:
    """Print the verdicts and tables, what failed or diverged, and where everything is.

    The page is named as a link, which most terminals open with a click.
    """
    if result.summary:
        console.print(markdown(Path(result.summary).read_text(encoding="utf-8")))
    lost = f", {result.diverged} diverged" if result.diverged else ""
    console.print(
        f"{result.results - result.failed - result.diverged} of {result.results} results{lost}; "
        f"{result.computed} steps computed, {result.reused} reused, in {seconds:.0f} s.\n"
        f"Rows: {result.rows}\n"
        f"Page: {Path(result.page).as_uri() if result.page else 'none'}",
        soft_wrap=True,
    )
    for cell, said in result.before.items():
        told = f"the verdict on {cell} changed; the last run said: {said}"
        console.print(told, style="yellow", soft_wrap=True)
    for reason in result.reasons:
        console.print(f"no result: {reason}", style="red", soft_wrap=True)
    if result.report_failure:
        told = f"no page could be drawn, the rows are written: {result.report_failure}"
        console.print(told, style="red", soft_wrap=True)
