"""A comparison whose cells are computed by runs of a deployment; here they are only looked up."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from prefect.client.schemas.objects import FlowRun

from flows.config.compare import CompareConfig
from flows.fan_out.deployment import check_deployment
from flows.fan_out.runs import ChildRuns
from flows.fan_out.units import StoredUnit, Unit, look_up, units_of
from flows.graph.cell import CellOutcome
from flows.graph.side_by_side import side_by_side
from paraknow_core.errors import ParaknowError
from tasks.engine.progress import logger


class ResultsElsewhereError(ParaknowError):
    """A run ended well, and its results cannot be found here."""


def fanned_out(config: CompareConfig) -> list[CellOutcome]:
    """Have all cells computed that are not stored, and return what is stored of every cell.

    Raises:
        ServerError, ConfigError: as `check_deployment`, before anything is submitted.
        ResultsElsewhereError: if results of a run that ended well are not to be found here; the
            other runs are then cancelled.
    """
    units = units_of(config)
    found = [look_up(config, unit) for unit in units]
    before = frozenset(key for one in found for key in one.keys)
    wanted = [one.unit for one in found if one.missing]
    logger.info("fan out: %d of %d runs have something to compute", len(wanted), len(units))
    stored = {one.unit.key: one for one in found}
    if wanted:
        check_deployment(config.fan_out.deployment)
        runs = ChildRuns(config.fan_out.deployment)
        calls = [partial(_computed, config, unit, runs, before) for unit in wanted]
        at_once = config.fan_out.in_flight
        computed = side_by_side(calls, at_once=at_once, on_interrupt=runs.cancel)
        stored |= {one.unit.key: one for one in computed}
    return _in_order(config, [stored[unit.key] for unit in units])


def _computed(
    config: CompareConfig, unit: Unit, runs: ChildRuns, before: Collection[str]
) -> StoredUnit:
    """Have one unit computed, again if its run fails or is lost, and look its results up."""
    why = ""
    for _attempt in range(config.fan_out.attempts):
        ended = runs.run(unit, _parameters(config, unit))
        why = _told(ended)
        logger.info("%s: %s", unit.name, why)
        if ended.state is None or ended.state.is_completed() or ended.state.is_cancelled():
            break
    told = f"not computed: {why}"
    stored = look_up(config, unit, why=told, before=before, download=True)
    well = ended.state is not None and ended.state.is_completed()
    if well and stored.lacks_results(config):
        raise _elsewhere(config, ended, stored)
    return stored


def _parameters(config: CompareConfig, unit: Unit) -> dict[str, Any]:
    sent = config.model_dump(mode="json", exclude_unset=True)
    task = "" if unit.whole else unit.tasks[0].name
    return {"config": sent, "pair": unit.pair.name, "task": task}


def _told(run: FlowRun) -> str:
    state = run.state
    said = f": {state.message}" if state is not None and state.message else ""
    return f"run {run.name!r} ended {state.name if state else 'without a state'}{said}"


def _elsewhere(config: CompareConfig, run: FlowRun, stored: StoredUnit) -> ResultsElsewhereError:
    store = config.run.open_store()
    label, key = next(iter(stored.missing.items()))
    tier = store.tier.bucket.backend.url if store.tier else "none"
    return ResultsElsewhereError(
        f"Run {run.name!r} ended well, but {len(stored.missing)} of its results are not to be "
        f"found here (the first: {label}, key {key[:12]}). Its worker must use the same store as "
        f"this comparison ({store.root}), or both must have the same PARAKNOW_REMOTE (here: "
        f"{tier}), the same files of models and data, and the same version of paraknow"
    )


def _in_order(config: CompareConfig, stored: Sequence[StoredUnit]) -> list[CellOutcome]:
    """Return the outcomes of all units in the order of the comparison's cells."""
    found = {
        (cell.outcome.pair.name, cell.outcome.task.name): cell.outcome
        for one in stored
        for cell in one.cells
    }
    return [found[pair.name, task.name] for pair, task in config.cells()]
