"""What a run would do: which steps would hit, which would run, and what they need. Runs nothing."""

import json
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from artifacts.errors import StoreFullError
from artifacts.folders import digest_folder
from artifacts.records import tree_digest
from flows.config import TransferConfig
from flows.runner import Handle, known_locations
from flows.stages import Stage, is_within
from flows.wiring import wire
from tasks.estimates import Estimate, Foreseen
from tasks.preflight import Check
from tasks.refs import Ref
from tasks.run import RunConfig
from tasks.step import (
    C,
    Need,
    NotDownloadedError,
    Step,
    folder_of,
    payload_of,
    ref_of,
)

Status = Literal["cached", "run", "unknown"]


@dataclass
class PlannedStep(Handle):
    """One row of the plan; ``unknown`` where the key hangs on a step that has yet to run."""

    step: str = ""
    status: Status = "run"
    key: str = ""
    estimate: Estimate = field(default_factory=Estimate)
    folder: Path | None = None
    """Where the output lies: in the store, or aside for a step that the plan computed itself."""

    @property
    def size(self) -> int:
        """Bytes of the output, known or estimated; 0 if neither."""
        return self.known.size if self.known else self.estimate.disk_bytes or 0


class Planner:
    """Follows the wiring with lookups; only cheap steps are computed, in a folder aside."""

    def __init__(self, run: RunConfig, until: Stage, aside: Path) -> None:
        self.run = run.model_copy(update={"download": False})
        self.steps: list[PlannedStep] = []
        self._until = until
        self._aside = aside
        self._store = run.open_store()

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Plan one step."""
        planned = PlannedStep(label, step=step.name)
        if not is_within(step.name, self._until):
            return planned
        self.steps.append(planned)
        known = {role: ref for role, given in inputs.items() if (ref := given.known) is not None}
        folders = {
            r: f for r, g in inputs.items() if isinstance(g, PlannedStep) and (f := g.folder)
        }
        if len(known) == len(inputs):
            self._resolve(planned, step, config, known, folders)
        else:
            planned.status = "unknown"
        if planned.status != "cached" and step.estimate and folders.keys() >= set(step.sized_by):
            sizes = {r: g.size for r, g in inputs.items() if isinstance(g, PlannedStep)}
            planned.estimate = step.estimate(config, Foreseen(folders, sizes))
        return planned

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Plan one step."""
        return self.start(step, config, label=label, **inputs)

    def check(self, check: Check, **inputs: Handle) -> None:
        """Run the check on what is known."""
        planned = {role: given for role, given in inputs.items() if isinstance(given, PlannedStep)}
        folders = {role: given.folder for role, given in planned.items() if given.folder}
        check(folders, known_locations(inputs))

    def _resolve(
        self,
        planned: PlannedStep,
        step: Step[C],
        config: C,
        inputs: dict[str, Ref],
        folders: dict[str, Path],
    ) -> None:
        try:
            source = step.source(config, inputs, self.run)
        except NotDownloadedError:
            return
        payload = payload_of(step, config=config, inputs=inputs, source=source, run=self.run)
        planned.key = payload.key()
        record = self._store.lookup(payload.key())
        if record is not None:
            planned.status = "cached"
            planned.known = ref_of(step, planned.label, record, source, cached=True)
            planned.folder = folder_of(self._store, planned.known)
        elif step.preview:
            need = Need(step, planned.label, config, inputs, self.run, source)
            self._preview(planned, need, folders)

    def _preview(self, planned: PlannedStep, need: Need[Any], folders: dict[str, Path]) -> None:
        """Compute a cheap step aside and see through it; its real run publishes the same bytes."""
        work = self._aside / str(len(self.steps))
        job = need.job(folders, work)
        need.step.compute(job)
        names = [str(path.relative_to(job.out)) for path in job.out.rglob("*") if path.is_file()]
        files = digest_folder(job.out, names)
        planned.folder = job.out
        planned.known = Ref(
            step=need.step.name,
            label=need.label,
            key=planned.key,
            tree=tree_digest(files),
            files={name: str(entry.digest) for name, entry in files.items()},
            size=sum(entry.size for entry in files.values()),
            location=need.source.location,
            cached=False,
            seconds=0.0,
        )


@dataclass(frozen=True)
class Plan:
    """The steps of a run in their order, and what the disk has."""

    steps: list[PlannedStep]
    store: Path
    free_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Bytes that the steps to run are known to need."""
        return sum(step.estimate.disk_bytes or 0 for step in self.steps if step.status != "cached")

    @property
    def all_cached(self) -> bool:
        """Whether nothing is left to compute."""
        return all(step.status == "cached" for step in self.steps)

    def refs(self) -> list[Ref]:
        """Return the outputs that are in the store."""
        return [step.known for step in self.steps if step.status == "cached" and step.known]

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        steps = [
            {
                "name": s.label,
                "step": s.step,
                "status": s.status,
                "key": s.key,
                **asdict(s.estimate),
            }
            for s in self.steps
        ]
        whole = {
            "steps": steps,
            "disk_bytes": self.disk_bytes,
            "free_bytes": self.free_bytes,
            "store": str(self.store),
        }
        return json.dumps(whole, indent=1)

    def check_disk(self) -> None:
        """Refuse a plan that the disk cannot hold.

        Raises:
            StoreFullError: names both figures.
        """
        if self.disk_bytes > self.free_bytes:
            raise StoreFullError(
                f"The plan needs about {self.disk_bytes / 1e9:.2f} GB in {self.store}, which has "
                f"{self.free_bytes / 1e9:.2f} GB free. Make room, or set another store "
                "(run.store or PARAKNOW_STORE)."
            )


def make_plan(config: TransferConfig, until: Stage) -> Plan:
    """Plan a transfer; raises whatever of its checks would fail before anything expensive runs."""
    store = config.run.open_store()
    with tempfile.TemporaryDirectory(prefix="paraknow-plan-") as aside:
        planner = Planner(config.run, until, Path(aside))
        wire(config, planner)
    return Plan(planner.steps, store.root, store.free_bytes())
