"""What a run would do: which steps would hit, which would run, and what they need. Runs nothing."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from artifacts.canonical import Json
from artifacts.errors import StoreFullError
from artifacts.folders import digest_folder
from artifacts.keys import KeyPayload
from artifacts.names import StepKey
from artifacts.records import Record, tree_digest
from artifacts.sizes import unequal
from flows.config.transfer import TransferConfig
from flows.graph.runner import Handle, known_locations
from flows.graph.transfer_steps import wire
from tasks.engine.drift import Drift, drift_of, refusal
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.ref import Ref
from tasks.engine.run import DriftMode, RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import (
    C,
    Need,
    NotDownloadedError,
    Step,
    folder_of,
    payload_of,
    ref_of,
)
from tasks.preflight import Check

Status = Literal["cached", "rebuild", "run", "unknown"]


@dataclass
class PlannedStep(Handle):
    """One row of the plan.

    ``rebuild``: it is stored, but drifted, and the run is to compute such results again;
    ``unknown``: its key hangs on a step that has yet to run.
    """

    step: str = ""
    status: Status = "run"
    key: str = ""
    payload: KeyPayload | None = None
    """What the key is the digest of, where it is known."""
    made_of: dict[str, StepKey] = field(default_factory=dict)
    """Role → key of each input, where the key is known."""
    drift: Drift | None = None
    """How the stored result's code or libraries differ from the present ones."""
    estimate: Estimate = field(default_factory=Estimate)
    folder: Path | None = None
    """Where the output lies: in the store, or aside for a step that the plan computed itself, or
    for what the settings alone say of it."""

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
        if not step.stage.is_within(self._until):
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
        if planned.folder is None and step.foresee:
            self._foresee(planned, step.foresee, config)
        if planned.status != "cached" and step.estimate and folders.keys() >= set(step.sized_by):
            sizes = {r: g.size for r, g in inputs.items() if isinstance(g, PlannedStep)}
            planned.estimate = step.estimate(config, Foreseen(folders, sizes))
        return planned

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Plan one step."""
        return self.start(step, config, label=label, **inputs)

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        """Run the check on what is known."""
        if before is not None and not before.stage.is_within(self._until):
            return
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
        planned.key, planned.payload = payload.key(), payload
        planned.made_of = {role: StepKey(ref.key) for role, ref in inputs.items()}
        record = self._store.lookup(payload.key())
        if record is not None:
            self._meet(planned, step, record, source)
        if planned.known is None and step.preview:
            need = Need(step, planned.label, config, inputs, self.run, source)
            self._preview(planned, need, folders)

    def _meet(self, planned: PlannedStep, step: Step[Any], record: Record, source: Source) -> None:
        """Take a stored result; of one to be rebuilt only the sizes are taken, for estimates."""
        planned.drift = drift_of(step.compute, record)
        stored = ref_of(step, planned.label, record, source, cached=True)
        planned.folder = folder_of(self._store, stored)
        if planned.drift is not None and self.run.drift == "rebuild":
            planned.status = "rebuild"
        else:
            planned.status, planned.known = "cached", stored

    def _foresee(self, planned: PlannedStep, foresee: Callable[[C, Path], bool], config: C) -> None:
        """Let checks and estimates see what the settings say of an output that is not there yet."""
        folder = self._aside / f"{len(self.steps)}-foreseen"
        folder.mkdir()
        if foresee(config, folder):
            planned.folder = folder

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
    drift_mode: DriftMode = "warn"

    @property
    def disk_bytes(self) -> int:
        """Bytes that the steps to run are known to need."""
        return sum(step.estimate.disk_bytes or 0 for step in self.steps if step.status != "cached")

    @property
    def all_cached(self) -> bool:
        """Whether nothing is left to compute."""
        return all(step.status == "cached" for step in self.steps)

    @property
    def drifted(self) -> dict[str, Drift]:
        """Step → how its stored result drifted."""
        return {step.label: step.drift for step in self.steps if step.drift is not None}

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
                "key": s.key,
                "drift": s.drift.text() if s.drift else None,
                **asdict(s.estimate),
                **({"why": misses.get(s.label)} if misses is not None else {}),
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

    def check(self) -> None:
        """Refuse what can be known to fail before anything runs.

        Raises:
            DriftError, StoreFullError: as the two checks.
        """
        self.check_drift()
        self.check_disk()

    def check_drift(self) -> None:
        """Refuse stored results that drifted, if the run is strict.

        Raises:
            DriftError: names every such step.
        """
        if self.drifted and self.drift_mode == "strict":
            raise refusal(self.drifted)

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
    return Plan(planner.steps, store.root, store.free_bytes(), config.run.drift)
