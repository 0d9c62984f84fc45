"""The one way a step runs: key, look up, compute, publish. The only caching code of the project."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from artifacts.disk.files import needing_room
from artifacts.errors import UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.live import keeping
from artifacts.names import Digest, StepKey
from artifacts.publishing import is_newer
from artifacts.records import Record
from artifacts.store import Store
from paraknow_core.errors import HubUnreachableError, ParaknowError
from paraknow_core.partial_results import PartialResults
from paraknow_core.settings import Settings, identity_of
from tasks.engine.drift import must_rebuild, tell_rebuilt
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.partial import open_partial
from tasks.engine.progress import StepProgress, logger, tell_wait
from tasks.engine.provenance import Clock, code_of, environment
from tasks.engine.reached_code import Used
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles, watched
from tasks.engine.stage import Stage
from tasks.engine.workers import Computed, check_going_on, compute_step, threads_of

C = TypeVar("C", bound=Settings)
Facts = dict[str, Any]


class NotDownloadedError(ParaknowError):
    """Something of the Hub is not here, and this run may not download it."""


@dataclass(frozen=True)
class Job(Generic[C]):
    """All that a step's computation may use."""

    config: C
    inputs: Mapping[str, Path]
    """Role → folder of the input's files (read-only)."""
    sources: Mapping[str, SourceFiles]
    """Role → files outside the store; no others may be read, as only these are watched."""
    out: Path
    """Empty folder for the output; it becomes the artifact."""
    partial: PartialResults
    """What is done so far; it survives a kill, and the next run goes on from what fits of it."""
    run: RunConfig
    progress: StepProgress
    digests: Mapping[str, Digest] = field(default_factory=dict)
    """Role → digest of what the step's own source resolved to."""

    @property
    def locations(self) -> Mapping[str, Path]:
        """Role → where the model described by that input, or the step's own data file, lies."""
        return {role: files.place for role, files in self.sources.items()}


def _no_source(_config: Any, _inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    return Source()


def _no_numerics(_config: Any, _run: RunConfig) -> Mapping[str, str | bool]:
    return {}


@dataclass(frozen=True)
class Step(Generic[C]):
    """One step: its identity, what it reads, and how it computes."""

    name: str
    version: int
    """Raised by hand when the meaning of the output changes."""
    stage: Stage
    """Of the run: ``--until`` that stage or a later one runs it."""
    compute: Callable[[Job[C]], Facts]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role → the files of that input which matter; an empty tuple is all of them."""
    opens: tuple[str, ...] = ()
    """Roles of models whose own files it reads: it learns where these lie, and they are watched."""
    source: Callable[[C, Mapping[str, Ref], RunConfig], Source] = _no_source
    numerics: Callable[[C, RunConfig], Mapping[str, str | bool]] = _no_numerics
    estimate: Callable[[C, Foreseen], Estimate] | None = None
    sized_by: tuple[str, ...] = ()
    """Inputs that ``estimate`` cannot do without; it uses others where they are known."""
    threaded: bool = False
    """Computes with torch, in as many threads as the run allows."""
    own_process: bool = False
    """Goes on beside other steps, so it computes in a process of its own."""
    foresee: Callable[[C, Path], bool] | None = None
    """Writes into a folder what the settings alone say of the output, for a plan's checks and
    estimates; tells whether they say anything."""
    preview: bool = False
    """Cheap enough for a plan to compute it aside, so that the plan can see further."""
    retries: int = 0
    on_result: Callable[[Ref, Path], None] | None = None
    """Called in the task after a hit as after a computation: what the UI should show."""

    @cached_property
    def task(self) -> Task[..., Ref | State[Ref]]:
        """The step as a Prefect task; a hit's state is named Cached and says what it reused."""

        def run(label: str, config: C, inputs: dict[str, Ref], run: RunConfig) -> Ref | State[Ref]:
            ref = run_step(self, label=label, config=config, inputs=inputs, run=run)
            if self.on_result is not None:
                self.on_result(ref, folder_of(run.open_store(), ref))
            if not ref.cached:
                return ref
            message = (
                f"reused {ref.tree[:16]} (key {ref.key[:16]}), computed once in {ref.seconds:.1f} s"
            )
            return Completed(name="Cached", message=message, data=ref)

        as_task: Task[..., Ref | State[Ref]] = task(  # type: ignore[call-overload]
            run,
            name=self.name,
            task_run_name="{label}",
            description=(self.compute.__doc__ or self.name).strip(),
            cache_policy=NO_CACHE,
            persist_result=False,
            retries=self.retries,
            retry_delay_seconds=5,
            retry_condition_fn=_worth_a_retry,
        )
        return as_task


def _worth_a_retry(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Only the network can go well the second time; anything else fails again."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, HubUnreachableError | ConnectionError | TimeoutError)


def payload_of(
    step: Step[C], *, config: C, inputs: Mapping[str, Ref], source: Source, run: RunConfig
) -> KeyPayload:
    """Return what identifies the output: step, version, config, input contents, numerics."""
    digests = dict(source.digests)
    for role, ref in inputs.items():
        names = step.reads.get(role, ())
        digests |= {f"{role}.{name}": Digest(ref.files[name]) for name in names}
        if not names:
            digests[role] = Digest(ref.tree)
    identity = identity_of(config)
    return KeyPayload(
        step=step.name,
        version=step.version,
        seed=identity.pop("seed", None),
        config=identity,
        inputs=digests,
        numerics=dict(step.numerics(config, run)),
    )


@keeping()
def run_step(
    step: Step[C], *, label: str, config: C, inputs: Mapping[str, Ref], run: RunConfig
) -> Ref:
    """Return the step's output from the store, or compute it and publish it there.

    Args:
        step: what to run.
        label: how this use of the step is shown, such as ``finetune plain``.
        config: the step's settings.
        inputs: role → output of an earlier step.
        run: store, device, threads.

    Raises:
        DriftError: in a strict run, if the stored output was made by other code or libraries.
        ParaknowError, StoreError: as the step and the store raise them.
    """
    store = run.open_store()
    source = step.source(config, inputs, run)
    payload = payload_of(step, config=config, inputs=inputs, source=source, run=run)
    key = payload.key()
    record = store.lookup(key)
    drifted = record is not None and must_rebuild(step.compute, record, run.drift, label=label)
    old = record if drifted else None
    cached = is_newer(record, old)
    if record is None or not cached:
        with store.lease(key, replaces=old, on_wait=_waiting(label)) as held:
            # Whoever held the lease before us may have published meanwhile.
            record = store.lookup(key)
            cached = is_newer(record, old)
            if record is None or not cached:
                need = Need(step, label, config, inputs, run, source)
                record = _compute(need, store, payload, adopt=held, replaces=old)
    ref = ref_of(step, label, record, source, cached=cached)
    verb = "cached" if cached else f"computed in {ref.seconds:.1f} s"
    logger.info("%s: %s, key %s, artifact %s", label, verb, key[:12], ref.tree[:12])
    return ref


def _waiting(label: str) -> Callable[[float], None]:
    """Return what is done while another process computes this very step."""
    tell = tell_wait(label)

    def wait(seconds: float) -> None:
        check_going_on()
        tell(seconds)

    return wait


@dataclass(frozen=True)
class Need(Generic[C]):
    """One computation that is needed: of which step, from what, and how it is shown."""

    step: Step[C]
    label: str
    config: C
    inputs: Mapping[str, Ref]
    run: RunConfig
    source: Source

    @property
    def payload(self) -> KeyPayload:
        """What identifies the output."""
        return payload_of(
            self.step, config=self.config, inputs=self.inputs, source=self.source, run=self.run
        )

    def job(self, folders: Mapping[str, Path], work: Path) -> Job[C]:
        """Lay out the folders of the computation below ``work``; ``folders`` hold the inputs."""
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        sources = dict(self.source.files)
        for role in self.step.opens:
            if role in self.inputs:
                place = Path(self.inputs[role].location)
                sources[role] = SourceFiles.acquired(place, folders[role])
        partial = open_partial(
            self.step.compute, self.payload, work, sources=sources, label=self.label
        )
        progress, digests = StepProgress(self.label), self.source.digests
        return Job(self.config, folders, sources, out, partial, self.run, progress, digests)

    def compute(self, job: Job[C]) -> Computed:
        """Compute where the step belongs.

        Raises:
            SourceChangedError: if a file outside the store is not, or did not stay, what was
                digested: then nothing of what was computed may be used.
        """
        step, stamps = self.step, self.run.open_store().stamps
        device = str(step.numerics(self.config, self.run).get("device", "cpu"))
        how = {"threaded": step.threaded, "own_process": step.own_process}
        with watched(job.sources, stamps=stamps, label=self.label):
            computed = compute_step(step.compute, job, device=device, **how)
        job.progress.finish()
        return computed

    def origin(self, used: Used) -> dict[str, Any]:
        """Return what computing it again takes, as plain JSON values.

        Args:
            used: the entries of registries that it looked up.
        """
        return {
            "label": self.label,
            "config": self.config.model_dump(mode="json"),
            "device": self.run.device,
            "threads": threads_of(self.run),
            "code": code_of(self.step.compute, used=used),
            "location": self.source.location,
            "inputs": {
                role: {
                    "step": ref.step,
                    "key": ref.key,
                    "digest": ref.tree,
                    "location": ref.location,
                }
                for role, ref in self.inputs.items()
            },
        }


def _compute(
    need: Need[Any], store: Store, payload: KeyPayload, *, adopt: bool, replaces: Record | None
) -> Record:
    store.check_writable()
    key = payload.key()
    logger.info("%s: computing, key %s", need.label, key[:12])
    work = store.workdir(key, adopt=adopt)
    record = _compute_in(work, need, store, payload, replaces)
    if replaces is not None:
        tell_rebuilt(need.label, replaces, record)
    return record


def _compute_in(
    work: Path, need: Need[Any], store: Store, payload: KeyPayload, replaces: Record | None
) -> Record:
    job = need.job({role: folder_of(store, ref) for role, ref in need.inputs.items()}, work)
    clock = Clock()
    with needing_room(work):
        found = need.compute(job)
    provenance = environment() | clock.read(found.seconds) | need.origin(found.used)
    record = store.publish(
        payload, job.out, facts=found.facts, provenance=provenance, replaces=replaces
    )
    store.discard_work(work)
    return record


def folder_of(store: Store, ref: Ref) -> Path:
    """Return the folder that shows the files of ``ref``, read-only.

    Raises:
        UnknownKeyError: if the record is gone or another one took its place.
    """
    record = store.lookup(StepKey(ref.key))
    if record is None or record.tree != ref.tree:
        msg = f"the output of {ref.label} (key {ref.key[:16]}) left the store meanwhile; run again"
        raise UnknownKeyError(msg)
    return store.tree_path(record)


def ref_of(step: Step[Any], label: str, record: Record, source: Source, *, cached: bool) -> Ref:
    """Return the reference to a record's output."""
    return Ref(
        step=step.name,
        label=label,
        key=record.key,
        tree=record.tree,
        files={name: entry.digest for name, entry in record.files.items()},
        size=sum(entry.size for entry in record.files.values()),
        location=source.location,
        cached=cached,
        seconds=float(str(record.provenance.get("seconds", 0.0))),
    )
