"""``paraknow doctor``: is everything in order, and if not, what to do."""

from dataclasses import asdict

import typer

from artifacts.canonical import Json
from artifacts.disk.locations import default_store_root
from flows.cli.store.options import JsonOption, StoreOption, print_json
from flows.doctor.finding import Finding, State
from flows.terminal import say


def doctor_command(as_json: JsonOption = False, store: StoreOption = None) -> None:
    """Check versions, torch, the store and its disk, and Prefect; exit with 1 on a failure.

    Nothing is changed, and no password or token is printed. It works before the first run.
    """
    from flows.doctor.examine import examine

    findings = examine(store or default_store_root())
    if as_json:
        _print_json(findings)
    else:
        _print_text(findings)
    if any(finding.state is State.FAILED for finding in findings):
        raise typer.Exit(1)


def _print_json(findings: list[Finding]) -> None:
    checks: list[Json] = [
        {name: str(value) for name, value in asdict(finding).items()} for finding in findings
    ]
    ok = not any(finding.state is State.FAILED for finding in findings)
    print_json({"ok": ok, "checks": checks})


def _print_text(findings: list[Finding]) -> None:
    for finding in findings:
        say(f"{finding.state:<8} {finding.topic}: {finding.found}")
        if finding.advice:
            say(f"         -> {finding.advice}")
    counts = {state: sum(f.state is state for f in findings) for state in State}
    say(f"{counts[State.FAILED]} failed, {counts[State.WARNING]} warnings")
