"""What one run of a fanned-out comparison computes: a pair, on one task or on all."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from flows.config.cells import PairConfig, TaskConfig
from flows.config.compare import CompareConfig
from flows.graph.stored import StoredCell, stored_cell

_ELSEWHERE: Final = {"name", "pairs", "tasks", "margins", "budget", "slots", "fan_out"}
"""Settings of a comparison that do not decide what one of its runs computes."""


@dataclass(frozen=True)
class Unit:
    """What one run computes.

    Attributes:
        pair: of the comparison.
        tasks: that it is compared on.
        whole: whether these are all tasks of the comparison, by its settings.
        key: digest of all settings that decide what is computed, and where it is stored.
    """

    pair: PairConfig
    tasks: tuple[TaskConfig, ...]
    whole: bool
    key: str

    @property
    def name(self) -> str:
        """As people read it."""
        return self.pair.name if self.whole else f"{self.pair.name} on {self.tasks[0].name}"

    @property
    def tag(self) -> str:
        """By which its runs are found on a server."""
        return f"unit {self.key[:32]}"

    @property
    def tags(self) -> list[str]:
        """Of its runs."""
        shown = [f"task {task.name}" for task in self.tasks]
        return ["fan-out", f"pair {self.pair.name}", *shown, self.tag]


@dataclass(frozen=True)
class StoredUnit:
    """What is stored of a unit.

    Attributes:
        unit: of the comparison.
        cells: what is stored of its cells, in their order.
    """

    unit: Unit
    cells: tuple[StoredCell, ...]

    @property
    def keys(self) -> frozenset[str]:
        """Of all that is stored of it."""
        return frozenset(key for cell in self.cells for key in cell.keys)

    @property
    def missing(self) -> dict[str, str]:
        """Label → key of what is not stored."""
        return {label: key for cell in self.cells for label, key in cell.missing.items()}

    def lacks_results(self, config: CompareConfig) -> bool:
        """Whether a result is missing, and not only a look at one."""
        arms, seeds = len(config.arms), len(config.seeds)
        failed = any(cell.outcome.failed(arms=arms, seeds=seeds) for cell in self.cells)
        return failed and bool(self.missing)


def units_of(config: CompareConfig) -> list[Unit]:
    """Deal the cells of a comparison out to runs, as its ``fan_out.by`` says."""
    shared = config.model_dump(mode="json", exclude=_ELSEWHERE)
    whole = config.fan_out.by == "pair"
    groups = [config.tasks] if whole else [(task,) for task in config.tasks]
    return [
        Unit(pair, tasks, whole, _key(shared, pair, tasks))
        for pair in config.pairs
        for tasks in groups
    ]


def look_up(
    config: CompareConfig,
    unit: Unit,
    *,
    why: str = "not computed yet",
    before: Collection[str] | None = None,
    download: bool = False,
) -> StoredUnit:
    """Look up all results of a unit; nothing is computed.

    Args:
        config: of the comparison.
        unit: of it.
        why: why what is not stored is lacking.
        before: keys that were stored before; any other counts as computed meanwhile. None: all.
        download: whether what is of the Hub may be downloaded, if the run allows it.
    """
    look = partial(stored_cell, config, unit.pair, why=why, before=before, download=download)
    return StoredUnit(unit, tuple(look(task) for task in unit.tasks))


def open_units(config: CompareConfig) -> list[Unit]:
    """Return the units of which something is left to compute."""
    return [unit for unit in units_of(config) if look_up(config, unit).missing]


def _key(shared: dict[str, Any], pair: PairConfig, tasks: tuple[TaskConfig, ...]) -> str:
    own = {
        "pair": pair.model_dump(mode="json"),
        "tasks": [task.model_dump(mode="json") for task in tasks],
    }
    return digest_bytes(canonical_bytes(shared | own))
