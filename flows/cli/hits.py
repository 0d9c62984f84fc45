"""Runs of which all is stored: they need no Prefect server, unless one is set to show them."""

from typing import TYPE_CHECKING

from flows.terminal import Terminal, warn

if TYPE_CHECKING:
    from flows.planning.planner import StepsPlan


def goes_without_server(console: Terminal, plan: "StepsPlan") -> bool:
    """Whether nothing is left to compute and nobody would see it: a server costs a 10 s start.

    Says which stored results have drifted, as their steps would, and why a server that is set will
    not show the run.
    """
    from flows.cli.console import warn_of_drift, watching
    from flows.server.server_settings import server_is_set, server_problem

    if not plan.all_cached:
        return False
    problem = server_problem()
    if problem:
        warn(f"All of this run is stored already; Prefect will not show it. {problem}")
    elif server_is_set():
        return False
    with watching(console):
        warn_of_drift(plan)
    return True
