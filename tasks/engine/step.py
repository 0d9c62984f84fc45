"""What a step is: its identity, what it reads, and how it computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from artifacts.keys import KeyPayload
from artifacts.names import Digest
from paraknow_core.errors import ParaknowError
from paraknow_core.partial_results import PartialResults
from paraknow_core.settings import Settings, identity_of
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.progress import StepProgress
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles
from tasks.engine.stage import Stage

C = TypeVar("C", bound=Settings)
Facts = dict[str, Any]


class NotDownloadedError(ParaknowError):
    """Something of the Hub is not here, and this run may not download it."""


@dataclass(frozen=True)
class Job(Generic[C]):
    """All that a step's computation may use.

    Attributes:
        config: the step's settings.
        inputs: role → folder of the input's files (read-only).
        sources: role → files outside the store; the computation may read no others, because only
            these are watched for changes.
        out: an empty folder for the output; it becomes the artifact.
        partial: what is done so far; it survives a kill, and the next run resumes from it.
        run: store, device, threads.
        progress: called with what is done, the total, and a message.
        digests: role → digest of what the step's own source resolved to.
        label: how this use of the step is shown, such as ``finetune plain``.
    """

    config: C
    inputs: Mapping[str, Path]
    sources: Mapping[str, SourceFiles]
    out: Path
    partial: PartialResults
    run: RunConfig
    progress: StepProgress
    digests: Mapping[str, Digest] = field(default_factory=dict)
    label: str = ""

    @property
    def locations(self) -> Mapping[str, Path]:
        """Role → where the model described by that input, or the step's own data file, lies."""
        return {role: files.place for role, files in self.sources.items()}


def _no_source(_config: Any, _inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    return Source()


def _one_device(_config: Any) -> int:
    return 1


def _no_numerics(_config: Any, _run: RunConfig) -> Mapping[str, str | bool]:
    return {}


@dataclass(frozen=True, eq=False)
class Step(Generic[C]):
    """One step: its identity, what it reads, and how it computes.

    Attributes:
        name: in keys, records and commands.
        version: raised by hand when the meaning of the output changes.
        stage: the part of a run that it belongs to; ``--until`` that stage or a later one runs it.
        compute: the function that writes the output; importable by name.
        reads: role → the files of that input that enter the key; an empty tuple means all of them.
        opens: roles of models whose own files it reads; it is given their folders, and the files
            are watched while it computes.
        source: returns digests and places of what it reads outside the store.
        numerics: returns what else decides the bytes of the output, such as the device.
        estimate: returns the memory, disk and tokens that it will need.
        sized_by: inputs without which ``estimate`` cannot be called; it uses others if known.
        threaded: whether it computes with torch, in as many threads as the run allows.
        devices: returns how many GPUs it computes on at once, a process on each; on a CPU it has as
            many processes, which share its cores.
        own_process: whether it needs a process of its own, because it runs while others do.
        foresee: writes into a folder what the settings alone say of the output, for the checks and
            estimates of a plan; returns whether they say anything.
        decided_by: returns a text for one file of the output: of two uses with equal texts the file
            is equal, although other settings may differ. A plan counts by it what reads that file.
        preview: whether it is cheap enough for a plan to compute it, so that the plan sees further.
        ready: refuses what the computation would lack; a plan asks where the result is not stored.
        retries: how often Prefect tries again after a network error.
        on_result: called in the task after a hit and after a computation, to show something in the
            UI.
    """

    name: str
    version: int
    stage: Stage
    compute: Callable[[Job[C]], Facts]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    opens: tuple[str, ...] = ()
    source: Callable[[C, Mapping[str, Ref], RunConfig], Source] = _no_source
    numerics: Callable[[C, RunConfig], Mapping[str, str | bool]] = _no_numerics
    estimate: Callable[[C, Foreseen], Estimate] | None = None
    sized_by: tuple[str, ...] = ()
    threaded: bool = False
    devices: Callable[[C], int] = _one_device
    own_process: bool = False
    foresee: Callable[[C, Path], bool] | None = None
    decided_by: Callable[[C, str], str] | None = None
    preview: bool = False
    ready: Callable[[C], None] | None = None
    retries: int = 0
    on_result: Callable[[Ref, Path], None] | None = None


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
