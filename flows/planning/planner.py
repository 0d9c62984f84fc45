"""A planner: follows the wiring of a flow by lookups, and finds which steps would run."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from artifacts.folders import digest_folder
from artifacts.keys import KeyPayload
from artifacts.names import StepKey
from artifacts.records import Record, tree_digest
from flows.graph.runner import Handle, known_locations
from flows.planning.judging import JudgingCost
from paraknow_core.errors import ModelFolderError
from tasks.acquire_model import WeightsMissingError
from tasks.checks.preflight import Check
from tasks.engine.code.drift import Drift, drift_of, refusal
from tasks.engine.computation import Computation
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.ref import Ref, folder_of, ref_of
from tasks.engine.run import DriftMode, RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import C, NotDownloadedError, Step, payload_of
from tasks.judging.win_rate import win_rate

Status = Literal["cached", "rebuild", "run", "unknown"]


@dataclass
class PlannedStep(Handle):
    """One row of the plan.

    ``rebuild``: it is stored, but drifted, and the run is to compute such results again;
    ``unknown``: its key depends on a step that has yet to run.

    Attributes:
        payload: what the key is the digest of, where it is known.
        made_of: role → key of each input, where the key is known.
        drift: how the stored result's code or libraries differ from the present ones.
        folder: where the output lies: in the store, or aside for a step that the plan computed
            itself, or for what the settings alone say of it.
        remote: whether its result is in the shared tier, and not here: the run brings it.
        uses: how often the wiring asked for it.
        inputs: digests of what it is made of, as far as they are known.
        seconds: how long it would probably take; None if that was not asked, or nothing like it
            ever ran.
        by_rates: whether ``seconds`` are its estimated work at some rates.
        after: steps that end before it begins, in a run.
        slot: the kind of slot that it computes in, ``cpu`` or ``cuda``; "": it takes none.
        devices: how many GPUs it computes on at once.
        lacking: what a run would lack here, a sentence; "": nothing.
        decided_by: returns a text for one file of the output; see `Step.decided_by`.
    """

    step: str = ""
    status: Status = "run"
    key: str = ""
    payload: KeyPayload | None = None
    made_of: dict[str, StepKey] = field(default_factory=dict)
    drift: Drift | None = None
    estimate: Estimate = field(default_factory=Estimate)
    folder: Path | None = None
    remote: bool = False
    uses: int = 1
    inputs: frozenset[str] = frozenset()
    seconds: float | None = None
    by_rates: bool = False
    after: tuple["PlannedStep", ...] = field(default=(), repr=False, compare=False)
    slot: str = ""
    devices: int = 1
    lacking: str = ""
    decided_by: Callable[[str], str] | None = None

    @property
    def size(self) -> int:
        """Bytes of the output, known or estimated; 0 if neither."""
        return self.known.size if self.known else self.estimate.disk_bytes or 0


class Planner:
    """Follows the wiring with lookups; only cheap steps are computed, in a temporary folder."""

    def __init__(self, run: RunConfig, until: Stage, aside: Path) -> None:
        self.run = run.model_copy(update={"download": False})
        self.steps: list[PlannedStep] = []
        self._until = until
        self._aside = aside
        self._store = run.open_store()
        self._memory = cache(partial(_memory_of, run))

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> PlannedStep:
        """Plan one step."""
        planned = PlannedStep(label, step=step.name)
        if not step.stage.is_within(self._until):
            return planned
        self.steps.append(planned)
        if step.decided_by is not None:
            planned.decided_by = partial(step.decided_by, config)
        known = {role: ref for role, given in inputs.items() if (ref := given.known) is not None}
        planned.inputs = frozenset(str(ref.tree) for ref in known.values())
        planned.after = tuple(given for given in inputs.values() if isinstance(given, PlannedStep))
        folders = {
            r: f for r, g in inputs.items() if isinstance(g, PlannedStep) and (f := g.folder)
        }
        if len(known) == len(inputs):
            self._resolve(planned, step, config, known, folders)
        else:
            planned.status = "unknown"
        if planned.status != "cached" and step.ready:
            step.ready(config)
        if planned.folder is None and step.foresee:
            self._foresee(planned, step.foresee, config)
        if planned.status != "cached" and step.estimate and folders.keys() >= set(step.sized_by):
            sizes = {r: g.size for r, g in inputs.items() if isinstance(g, PlannedStep)}
            here = Foreseen(folders, sizes, memory=self._memory, device=self.run.device_type)
            planned.estimate = step.estimate(config, here)
        if (processes := step.devices(config)) > 1:
            self._spread(planned, processes)
        return planned

    def _spread(self, planned: PlannedStep, processes: int) -> None:
        """Take an estimate, which is of one of several processes, for where they compute."""
        need = planned.estimate.memory_bytes
        if self.run.device_type() == "cuda":
            planned.devices = processes  # and the memory is that of each
        elif need is not None:
            planned.estimate = replace(planned.estimate, memory_bytes=processes * need)

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
        except NotDownloadedError as error:
            planned.lacking = str(error) if isinstance(error, WeightsMissingError) else ""
            return
        payload = payload_of(step, config=config, inputs=inputs, source=source, run=self.run)
        planned.key, planned.payload = payload.key(), payload
        planned.made_of = {role: StepKey(ref.key) for role, ref in inputs.items()}
        record = self._store.lookup_here(payload.key())
        if record is None:
            record = self._store.record_elsewhere(payload.key())
            planned.remote = record is not None
        if record is not None:
            self._meet(planned, step, record, source)
        # Of what is in the shared tier only the record is asked for: there is nothing to see yet.
        if planned.known is None and step.preview and folders.keys() >= inputs.keys():
            computation = Computation(step, planned.label, config, inputs, self.run, source)
            with suppress(NotDownloadedError):  # the run itself may download it
                self._preview(planned, computation, folders)

    def _meet(self, planned: PlannedStep, step: Step[Any], record: Record, source: Source) -> None:
        """Take a stored result; of one to be rebuilt only the sizes are taken, for estimates."""
        planned.drift = drift_of(step.compute, record)
        stored = ref_of(planned.label, record, source, cached=True)
        if not planned.remote:
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

    def _preview(
        self, planned: PlannedStep, computation: Computation[Any], folders: dict[str, Path]
    ) -> None:
        """Compute a cheap step in a temporary folder, so that the plan sees its output."""
        work = self._aside / str(len(self.steps))
        job = computation.job(folders, work)
        computation.step.compute(job)
        names = [str(path.relative_to(job.out)) for path in job.out.rglob("*") if path.is_file()]
        files = digest_folder(job.out, names)
        planned.folder = job.out
        planned.known = Ref(
            step=computation.step.name,
            label=computation.label,
            key=planned.key,
            tree=tree_digest(files),
            files={name: str(entry.digest) for name, entry in files.items()},
            size=sum(entry.size for entry in files.values()),
            location=computation.source.location,
            cached=False,
            seconds=0.0,
        )


@dataclass(frozen=True)
class StepsPlan:
    """The steps of a plan in their order, and what the disk has."""

    steps: list[PlannedStep]
    store: Path
    free_bytes: int
    drift_mode: DriftMode = "warn"

    @property
    def to_run(self) -> list[PlannedStep]:
        """Steps that are not in the store."""
        return [step for step in self.steps if step.status != "cached"]

    @property
    def disk_bytes(self) -> int:
        """Bytes that the steps to run are known to need, and those to be brought here."""
        needed = sum(step.estimate.disk_bytes or 0 for step in self.to_run)
        return needed + sum(step.size for step in self.brought)

    @property
    def brought(self) -> list[PlannedStep]:
        """Steps whose results the run brings here from the shared tier."""
        return [step for step in self.steps if step.status == "cached" and step.remote]

    @property
    def judging(self) -> JudgingCost | None:
        """What a judge would be asked; None if none would be."""
        return JudgingCost.of([s.estimate for s in self.to_run if s.step == win_rate.name])

    @property
    def all_cached(self) -> bool:
        """Whether nothing is left to compute, nor to bring here: what is brought may be damaged."""
        return not self.to_run and not self.brought

    @property
    def drifted(self) -> dict[str, Drift]:
        """Step → how its stored result drifted; of several with one label and reason, one."""
        return {step.label: step.drift for step in self.steps if step.drift is not None}

    @property
    def lacking(self) -> list[str]:
        """What is enough for this plan, and not for a run: a sentence each."""
        return sorted({step.lacking for step in self.steps if step.lacking})

    def check_complete(self) -> None:
        """Refuse to run what only a plan can be made of.

        Raises:
            ModelFolderError: names the folder without weights.
        """
        if self.lacking:
            raise ModelFolderError(" ".join(self.lacking))

    def check_drift(self) -> None:
        """Refuse stored results that drifted, if the run is strict.

        Raises:
            DriftError: names every such step.
        """
        if self.drifted and self.drift_mode == "strict":
            raise refusal(self.drifted)


def _memory_of(run: RunConfig) -> int:
    """Bytes that a step may take on this machine, now."""
    from paraknow_core.inspection.available import available_bytes

    return available_bytes(run.device_type())
