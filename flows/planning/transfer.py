"""What a transfer would do: the steps that would hit or run, and what they need. Runs nothing."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from artifacts.canonical import Json
from artifacts.disk.sizes import unequal
from artifacts.errors import StoreFullError
from artifacts.room import store_free_bytes
from flows.config.transfer import TransferConfig
from flows.graph.transfer_steps import wire
from flows.planning.planner import Planner, StepsPlan
from tasks.engine.ref import Ref
from tasks.engine.stage import Stage


@dataclass(frozen=True)
class Plan(StepsPlan):
    """What a transfer would do."""

    def refs(self) -> list[Ref]:
        """Return the outputs that are in the store."""
        return [step.known for step in self.steps if step.status == "cached" and step.known]

    def to_json(self, misses: Mapping[str, Json] | None = None) -> str:
        """Return the plan as JSON text; ``misses`` is label → why that step would run."""
        steps = [
            {
                "name": s.label,
                "step": s.step,
                "status": s.status,
                "remote": s.remote,
                "key": s.key,
                "drift": s.drift.text() if s.drift else None,
                **asdict(s.estimate),
                **({"why": misses.get(s.label)} if misses is not None else {}),
            }
            for s in self.steps
        ]
        whole = {
            "steps": steps,
            "judging": asdict(self.judging) if self.judging else None,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "store": str(self.store),
        }
        return json.dumps(whole, indent=1)

    def check(self) -> None:
        """Refuse what can be known to fail before anything runs.

        Raises:
            ModelFolderError, DriftError, StoreFullError: as the checks.
        """
        self.check_complete()
        self.check_drift()
        self.check_disk()

    def check_disk(self) -> None:
        """Refuse a plan that the disk cannot hold.

        Raises:
            StoreFullError: names both figures.
        """
        if self.disk_bytes > self.free_bytes:
            need, free = unequal(self.disk_bytes, self.free_bytes)
            raise StoreFullError(
                f"The plan needs about {need} in {self.store}, which has {free} free. Make "
                "room, or set another store (run.store or PARAKNOW_STORE)."
            )


def make_plan(config: TransferConfig, until: Stage) -> Plan:
    """Plan a transfer; raises whatever of its checks would fail before anything expensive runs."""
    store = config.run.open_store()
    with tempfile.TemporaryDirectory(prefix="paraknow-plan-") as aside:
        planner = Planner(config.run, until, Path(aside))
        wire(config, planner)
    return Plan(planner.steps, store.root, store_free_bytes(store.root), config.run.drift)
